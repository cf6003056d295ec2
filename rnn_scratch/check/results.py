"""Compare a function's outputs with expected values and describe each comparison."""

import functools
import importlib.resources
import math
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..system.records import Record

BACKEND = "backend"  # function name in the result if the backend itself fails
TRAINING = "training"  # function name in results of the reference's trainings

# Rounding tolerance for float64 on any device. Float32 has 29 fewer bits of precision, so its
# tolerance on the CPU is 2**29 times as large, but at most 0.0005. On a GPU, the factor is larger
# because float32 functions are less accurate and sums are computed in different orders.
ROUNDING = 1e-14
FLOAT32_FACTORS = {"cpu": 2.0**29, "cuda": 2.0**31}  # other devices: 2.0**33


def scale_tolerance(tolerance: float, dtype: str, device: str) -> float:
    """Scale a float64 tolerance for a dtype and device."""
    if dtype == "float64":
        return tolerance
    return min(tolerance, 1e-12) * FLOAT32_FACTORS.get(device, 2.0**33)


class CheckResult(Record):
    """The comparison of a function's output with its expected value."""

    function: str  # usually a contract function
    output: str
    case: str  # describes the case: dtype, cell and sizes; may be empty
    difference: float | None  # largest absolute difference; None if it cannot be computed
    location: str  # the worst element, the problem, or the reason the case is not supported
    tolerance: float  # largest difference that passes
    supported: bool = True  # whether the backend supports the case
    expected: float | None = None  # value at `location`
    actual: float | None = None
    seed: int | None = None  # seed of the draw

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference is not None and self.difference <= self.tolerance

    @property
    def outcome(self) -> str:
        """The outcome, with details if the output differs or the case is not supported."""
        if not self.supported:
            return f"not supported  {self.location}"
        if self.function == BACKEND:
            return "not installed" if "not installed" in self.location else "failed"
        return "right" if self.passed else f"DIFFERS     {self.sentence}"

    @property
    def problem(self) -> str:
        """A description of the failure: how far the output is off, or why it cannot be compared."""
        name = f"{self.output}: {self.location}".replace(": [", "[").strip(": ")
        if self.difference is None or self.actual is None or self.expected is None:
            return name
        values = format_pair(self.actual, self.expected)
        return f"{name} is {values}: off by {self.difference:.1e}, allowed {self.tolerance:.1e}"

    @property
    def sentence(self) -> str:
        """A description of the failure and the case."""
        return f"{self.problem} ({self.case})" if self.case else self.problem


class Verdict(Record):
    """The result of comparing a user's function with the reference."""

    function: str
    line: int  # line number of the definition
    num_comparisons: int = 0  # comparisons until the first failure
    problem: str = ""  # why the function cannot be checked
    failure: CheckResult | None = None  # first failed comparison
    mistake: str = ""  # name of a known mistake that produces the same values
    form: str = ""  # how its form differs from the contract's
    errata: list[str] = []  # errata of the book that it contains
    example: str = ""  # Python code that reproduces the failing call's arguments
    callees: list[str] = []  # functions of the file that it calls and that are not right

    @property
    def exit_code(self) -> int:
        """0 if the function is correct, 1 if it differs, 2 if it cannot be checked."""
        return 2 if self.problem else int(self.failure is not None)

    def explain(self, path: str) -> list[str]:
        """Return lines that describe the first difference or the problem."""
        place = f"`{self.function}` ({path}, line {self.line})"
        lines = [f"{place} cannot be checked. {self.problem}"] if self.problem else []
        if self.failure:
            details = f"  {self.failure.problem}", f"  in {self.failure.case}"
            lines = [f"{place} differs from the reference:", *details]
            if self.failure.function != self.function:
                lines[0] = f"{place} gives wrong results in `{self.failure.function}`:"
        lines += [f"These are the values of a known mistake: {self.mistake}."] * bool(self.mistake)
        for name in self.callees:
            lines.append(f"It calls `{name}`, which is not right. Correct `{name}` first.")
        if self.example:
            lines += ["To reproduce the arguments:", *self.example.split("\n")]
        return lines


def format_pair(actual: float, expected: float) -> str:
    """Format two numbers with enough digits to show their difference."""
    for digits in range(4, 18):
        texts = [f"{number:.{digits}g}" for number in (actual, expected)]
        if f"{actual:.{digits - 1}g}" != f"{expected:.{digits - 1}g}":
            break
    return " instead of ".join(texts)


def describe_error(error: Exception) -> str:
    """Return an error's type and the first line of its message, without a final period.

    Of a message that is itself a traceback, as of MXNet and TensorFlow, return the last line.
    """
    lines = str(error).strip().splitlines() or [""]
    is_traceback = lines[0].startswith(("Traceback (most recent", "in user code"))
    message = lines[-1 if is_traceback else 0].strip().rstrip(".")
    return f"{type(error).__name__}: {message[:200]}".rstrip(": ")


def pass_fail_result(output: str, passed: bool, problem: str, function: str = "") -> CheckResult:
    """Return a pass/fail result without a case; `problem` is the message on failure."""
    return CheckResult(function, output, "", 0 if passed else None, "" if passed else problem, 0)


class Result(NamedTuple):
    """A function's output: a tensor, array, number, string, dict, tuple or error."""

    name: str
    value: Any
    expected: Any = None  # None: the reference's output
    tolerance: float = ROUNDING  # float64 tolerance; see `scale_tolerance`
    tensors: Any = None  # tensors that `value` was converted from
    function: str = ""  # function name if it differs from the check's name

    def key(self, check: Any) -> str:
        """Return the key "function: output", which identifies this output within a check."""
        return f"{self.function or check.__name__}: {self.name}"


class WorstMismatch(NamedTuple):
    """The element at which two outputs differ most."""

    difference: float | None  # None if not finite or if the outputs cannot be compared
    location: str
    expected: float | None = None
    actual: float | None = None


def find_worst_mismatch(expected: Any, actual: Any) -> WorstMismatch:
    """Find where two outputs (arrays, numbers, strings, dicts or tuples) differ most."""
    if isinstance(actual, Exception):
        return WorstMismatch(None, describe_error(actual))
    if isinstance(expected, str):
        problem = f"{actual} instead of {expected}"
        return WorstMismatch(0, "") if actual == expected else WorstMismatch(None, problem)
    if isinstance(expected, tuple):
        if not isinstance(actual, tuple) or len(actual) != len(expected):
            found = f"a tuple of {len(actual)}" if isinstance(actual, tuple) else "a tensor"
            return WorstMismatch(None, f"{found} instead of a tuple of {len(expected)}")
        if len(expected) == 1:
            return find_worst_mismatch(*expected, *actual)
        expected = {f"[{index}]": array for index, array in enumerate(expected)}
        actual = {f"[{index}]": array for index, array in enumerate(actual)}
    if isinstance(expected, dict):
        if sorted(expected) != sorted(actual):
            return WorstMismatch(
                None, f"names {', '.join(actual)} instead of {', '.join(expected)}"
            )
        pairs = [(name, find_worst_mismatch(expected[name], actual[name])) for name in expected]
        sizes = [math.inf if w.difference is None else w.difference for _, w in pairs]
        name, worst = pairs[int(np.argmax(sizes))]
        separator = "" if worst.location[:1] in ("", "[") else ": "
        return worst._replace(location=f"{name}{separator}{worst.location}")
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        return WorstMismatch(None, f"shape {actual.shape} instead of {expected.shape}")
    integers = expected.dtype.kind == actual.dtype.kind == "i"  # integer widths may differ
    if expected.dtype != actual.dtype and expected.shape and not integers:
        return WorstMismatch(None, f"dtype {actual.dtype} instead of {expected.dtype}")
    with np.errstate(all="ignore"):
        differences = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
        is_same = (expected == actual) | ((expected != expected) & (actual != actual))
        differences = np.where(is_same, 0, differences)  # equal infinities and NaNs differ by 0
    index = np.unravel_index(np.argmax(differences), differences.shape)  # NaN counts as largest
    largest = float(differences[index])
    location = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    if not math.isfinite(largest):
        problem = f"{location}: {actual[index]:.4g} instead of {expected[index]:.4g}"
        return WorstMismatch(None, problem.removeprefix(": "))
    return WorstMismatch(largest, location, float(expected[index]), float(actual[index]))


def flatten(output: Any) -> np.ndarray:
    """Concatenate the elements of an array, or of a dict or tuple of arrays, as float64."""
    return np.concatenate([array.ravel().astype(np.float64) for array in _list_arrays(output)])


def weighted_sum(output: Any) -> float:
    """Return a weighted sum of an output's elements, shapes and floating-point precisions."""
    arrays = _list_arrays(output)
    # The precision of a number, such as a norm, depends on NumPy's version.
    precisions = [array.itemsize * (array.dtype.kind == "f" and array.ndim > 0) for array in arrays]
    sizes = [(*array.shape, size) for array, size in zip(arrays, precisions)]
    values = flatten((*arrays, *sizes))
    # The weights differ, so a wrong order or sign changes the sum; adding 1 makes zeros count.
    return float((values + 1) @ np.cos(np.arange(1, len(values) + 1)))


def _list_arrays(output: Any) -> list[np.ndarray]:
    if isinstance(output, dict):
        output = tuple(output[name] for name in sorted(output))
    return [np.asarray(array) for array in (output if isinstance(output, tuple) else (output,))]


@functools.cache
def read_data(name: str) -> Any:
    """Return the contents of ``pinned.json`` or ``mistakes.json`` from this folder."""
    return msgspec.json.decode((importlib.resources.files(__package__) / name).read_bytes())
