"""Compare a function's results with expected values; each value has a `CheckResult`."""

import functools
import importlib.resources
import itertools
import math
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..contract import CELLS, MODULES
from ..system.records import Record

# The file of each function that a check result can name.
FILES = {
    function.__name__: f"{module}.py"
    for module in ("scratch", "deep", "exact", "machine", "workers")
    for function in MODULES[module]
}
FILES |= {cell.replace("-", "_"): "cells.py" for cell in CELLS} | {"rnn": "scratch.py"}

# Tolerance for rounding in float64, on any device. A float32 has 29 bits fewer, so its tolerance
# is 2**29 times larger, but at most 0.0005. GPU functions are less accurate in float32 and add in
# other orders, so the factor is larger there.
ROUNDING = 1e-14
FLOAT32_FACTORS = {"cpu": 2.0**29, "cuda": 2.0**31}
OTHER_DEVICES_FACTOR = 2.0**33

RECORDED = "recorded value"  # location of a weighted sum of all elements


def scale_tolerance(tolerance: float, dtype: str, device: str) -> float:
    """Convert a tolerance for float64 to the tolerance for this dtype and device."""
    if dtype == "float64":
        return tolerance
    return min(tolerance, 1e-12) * FLOAT32_FACTORS.get(device, OTHER_DEVICES_FACTOR)


class CheckResult(Record):
    """One comparison of an output of a function with its expected value.

    Attributes:
        function: Name of the function, usually one of the contract.
        output: Name of the compared output.
        case: Dtype, cell and sizes of the model.
        difference: Largest absolute difference; None if it is not a number.
        location: Index of the largest difference; the problem if `difference` is None, or the
            reason if the backend does not support the case.
        tolerance: Largest difference that passes.
        supported: Whether the backend supports the case.
        expected: Expected value at `location`.
        actual: Computed value at `location`.
        file: File of the function; empty if it is not in the contract.
        seed: Seed of the draw; None for a fixed case.
    """

    function: str
    output: str
    case: str
    difference: float | None
    location: str
    tolerance: float
    supported: bool = True
    expected: float | None = None
    actual: float | None = None
    file: str = ""
    seed: int | None = None

    @property
    def place(self) -> str:
        """The function and its file."""
        return f"{self.function} in {self.file}" if self.file else self.function

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference is not None and self.difference <= self.tolerance

    @property
    def sentence(self) -> str:
        """The output, the case, and the difference or the problem."""
        case = f" in {self.case}" if self.case else ""
        if not self.supported:
            return f"{self.location} ({self.case})" if self.case else self.location
        if self.difference is None:
            return f"{self.output}{case}: {self.location}".lstrip().removeprefix(": ")
        if self.expected is None or self.actual is None:
            return f"{self.output}{case}"
        number = f"{self.output} {self.location}".replace(" [", "[").rstrip()
        if self.location == RECORDED:
            number = f"{self.output} (weighted sum)"
        elif self.location.startswith(f"{self.output}["):  # a gradient, which is named already
            number = self.location
        values = "" if self.passed else f" is {format_pair(self.actual, self.expected)}"
        return f"{number}{values}{case}: off by {self.difference:.1e}, allowed {self.tolerance:.1e}"


def format_pair(actual: float, expected: float) -> str:
    """Format two numbers with enough digits to show their difference."""
    for digits in range(4, 18):
        texts = [f"{number:.{digits}g}" for number in (actual, expected)]
        if f"{actual:.{digits - 1}g}" != f"{expected:.{digits - 1}g}":
            break
    return " instead of ".join(texts)


def describe_error(error: Exception) -> str:
    """Return the type and the first line of the message of any error."""
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {message[:200]}".rstrip(": ")


def unsupported_result(function: str, case: str, reason: str) -> CheckResult:
    """Return the result of a case that the backend does not support."""
    return CheckResult(function, "", case, 0, reason.splitlines()[0], 0, supported=False)


def pass_fail_result(output: str, passed: bool, problem: str, function: str = "") -> CheckResult:
    """Return a pass/fail result without a case; `problem` is the message on failure."""
    difference, location = (0, "") if passed else (None, problem)
    file = FILES.get(function, "")
    return CheckResult(function, output, "", difference, location, 0, file=file)


class Result(NamedTuple):
    """An output of a function: tensors, arrays or text, or a dict or tuple of them; or an error."""

    name: str
    value: Any
    expected: Any = None  # None: the output of the reference
    tolerance: float = ROUNDING  # float64 tolerance; see `scale_tolerance`
    tensors: Any = None  # tensors that `value` was converted from
    function: str = ""  # the function, if it is not the check's


class Worst(NamedTuple):
    """The element in which two outputs differ most."""

    difference: float | None  # None if it is not a number, or if the outputs cannot be compared
    location: str
    expected: float | None = None
    actual: float | None = None

    @property
    def size(self) -> float:
        """The difference, infinite if it is not a number."""
        return math.inf if self.difference is None else self.difference

    def within(self, name: str) -> "Worst":
        """Prefix the location with the name of the array that contains it."""
        colon = "" if self.location[:1] in ("", "[") else ": "
        return self._replace(location=f"{name}{colon}{self.location}")


def find_worst(expected: Any, actual: Any) -> Worst:
    """Compare two outputs: arrays, numbers or texts, or dicts or tuples of them."""
    if isinstance(actual, Exception):
        return Worst(None, describe_error(actual))
    if isinstance(expected, str):
        return (
            Worst(0, "") if actual == expected else Worst(None, f"{actual} instead of {expected}")
        )
    if isinstance(expected, dict):
        if [*expected] != [*actual]:  # the order matters, because norms are summed in it
            return Worst(None, f"names {', '.join(actual)} instead of {', '.join(expected)}")
        elements = [find_worst(expected[name], actual[name]).within(name) for name in expected]
        return max(elements, key=lambda worst: worst.size)
    if isinstance(expected, tuple):
        if len(expected) != len(actual):
            return Worst(None, f"{len(actual)} tensors instead of {len(expected)}")
        elements = list(map(find_worst, expected, actual))
        numbered = [worst.within(f"[{index}]") for index, worst in enumerate(elements)]
        return max(numbered if len(elements) > 1 else elements, key=lambda worst: worst.size)
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        swapped = ", axes swapped" if has_swapped_axes(expected, actual) else ""
        return Worst(None, f"shape {actual.shape} instead of {expected.shape}{swapped}")
    integers = expected.dtype.kind == actual.dtype.kind == "i"  # sizes may differ
    if expected.dtype != actual.dtype and expected.shape and not integers:
        return Worst(None, f"{actual.dtype} instead of {expected.dtype}")
    with np.errstate(all="ignore"):
        differences = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    index = np.unravel_index(np.argmax(differences), differences.shape)  # NaN counts as largest
    largest = float(differences[index])
    location = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    if not math.isfinite(largest):
        return Worst(None, f"{location} {actual[index]}")
    return Worst(largest, location, float(expected[index]), float(actual[index]))


def has_swapped_axes(expected: Any, actual: Any) -> bool:
    """Return whether an array, or an array in a dict or tuple, has two axes swapped."""
    if isinstance(expected, dict):
        expected, actual = tuple(expected.values()), tuple(actual.values())
    if isinstance(expected, tuple):
        return any(map(has_swapped_axes, expected, actual))
    expected, actual = np.asarray(expected), np.asarray(actual)
    if "U" in (expected.dtype.kind, actual.dtype.kind):  # a text has no axes
        return False

    def equal(array: np.ndarray) -> bool:
        return array.shape == expected.shape and np.allclose(array, expected, 1e-4, 1e-7)

    pairs = itertools.combinations(range(actual.ndim), 2)
    return not equal(actual) and any(equal(np.swapaxes(actual, *pair)) for pair in pairs)


def flatten(output: Any) -> np.ndarray:
    """Concatenate the elements of arrays, or of dicts or tuples with arrays, in float64."""
    if isinstance(output, dict):
        output = tuple(output.values())
    arrays = output if isinstance(output, tuple) else (output,)
    return np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])


def weighted_sum(output: Any) -> float:
    """Return a weighted sum of all elements of an output."""
    values = flatten(output)
    # Distinct weights, so that a wrong order or sign changes the sum.
    return float(values @ np.cos(np.arange(1, len(values) + 1)))


@functools.cache
def recorded() -> dict[str, dict[str, float]]:
    """Return weighted sums of the reference's outputs, by case and "function: output".

    ``notebooks/measure/pin.py`` writes the file.
    """
    file = importlib.resources.files("rnn_scratch") / "check" / "pinned.json"
    return msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, float]])
