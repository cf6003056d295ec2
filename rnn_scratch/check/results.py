"""The results of a piece compared with what is expected: a row for each."""

import functools
import importlib.resources
import itertools
import math
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..contract import CELLS, MODULES
from ..system.records import Record

# The file of each function that a row can name.
FILES = {
    function.__name__: f"{module}.py"
    for module in ("scratch", "deep", "machine", "workers")
    for function in MODULES[module]
}
FILES |= {cell.replace("-", "_"): "cells.py" for cell in CELLS} | {"rnn": "scratch.py"}

# What rounding may change in float64, on any device. In float32 it is 2**29 times as much, as a
# float32 has 29 bits fewer, but at most 0.0005; and on a GPU, whose functions are less accurate
# in float32 and whose sums are taken in other orders, a multiple of that.
ROUNDING = 1e-14
FLOAT32 = {"cpu": 2.0**29, "cuda": 2.0**31}
OTHER_DEVICES = 2.0**33

RECORDED = "recorded value"  # in the place of an element: of the weighted sum of all
LEAST = 1e-12  # to allow: of a sum of many terms, each rounded differently on another machine


def tolerance(difference: float, dtype: str, device: str) -> float:
    """Return the difference to allow where this one is allowed in float64."""
    if dtype == "float64":
        return difference
    return min(difference, 1e-12) * FLOAT32.get(device, OTHER_DEVICES)


class Row(Record):
    """One comparison: of which piece and which of its results, the largest difference and where."""

    piece: str  # a function of the contract
    result: str
    case: str  # dtype, cell, and what else it has
    difference: float | None  # None: it is not a number, or there is nothing to compare
    where: str
    allowed: float
    note: str = ""
    offered: bool = True
    expected: float | None = None  # the number with the largest difference; None: it is none
    actual: float | None = None
    file: str = ""  # of the function; empty where it is not the contract's

    @property
    def place(self) -> str:
        """The function, and the file that it is in."""
        return f"{self.piece} in {self.file}" if self.file else self.piece

    @property
    def passed(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.difference is not None and self.difference <= self.allowed

    @property
    def sentence(self) -> str:
        """What was compared in which case, and how far it is off; or what is wrong instead."""
        case = f" in {self.case}" if self.case else ""
        what, note = f"{self.result}{case}".lstrip(), f"; {self.note}" if self.note else ""
        if not self.offered:
            return f"{self.note} ({self.case})" if self.case else self.note
        if self.difference is None:
            return f"{what}: {self.where}".removeprefix(": ")
        if self.expected is None or self.actual is None:
            return what + note
        number = f"{self.result} {self.where}".replace(" [", "[").rstrip()
        if self.where.startswith(f"{self.result}["):  # a parameter's gradient: its name once
            number = self.where
        elif self.where == RECORDED:
            number = f"{self.result} (weighted sum)"
        figures = "" if self.passed else f" is {apart(self.actual, self.expected)}"
        off = f"off by {self.difference:.1e}, allowed {self.allowed:.1e}"
        return f"{number}{figures}{case}: {off}{note}"


def apart(actual: float, expected: float) -> str:
    """Format two numbers with enough digits to show where they differ."""
    for digits in range(4, 18):
        texts = [f"{number:.{digits}g}" for number in (actual, expected)]
        if f"{actual:.{digits - 1}g}" != f"{expected:.{digits - 1}g}":
            break
    return " instead of ".join(texts)


def not_offered(piece: str, case: str, reason: str) -> Row:
    """Return the row of what a backend says that it does not have."""
    note = reason.splitlines()[0]
    row = fact("", True, "", note, piece=piece, case=case)
    row.offered = False
    return row


def fact(
    result: str, true: bool, otherwise: str, note: str = "", piece: str = "", case: str = ""
) -> Row:
    """Return the row of what is either so or not; `otherwise` says what is so instead."""
    return Row(
        piece=piece,
        result=result,
        case=case,
        difference=0 if true else None,
        where="" if true else otherwise,
        allowed=0,
        note=note,
        file=FILES.get(piece, ""),
    )


class Computed(NamedTuple):
    """What a piece computes: tensors or arrays, or a dict or tuple of them."""

    name: str
    value: Any
    expected: Any = None  # None: what the same piece computes with the reference
    allowed: float = ROUNDING  # the difference, in float64
    note: str = ""
    tensors: Any = None  # of which the value is made, where it is arrays


class Worst(NamedTuple):
    """The element in which two results differ most."""

    difference: float | None  # None: it is not a number, or they cannot be compared
    where: str
    expected: float | None = None
    actual: float | None = None

    def within(self, name: str) -> "Worst":
        """Return the same element, of a result in which this one has a name."""
        colon = "" if self.where[:1] in ("", "[") else ": "
        return self._replace(where=f"{name}{colon}{self.where}")


def worst(expected: Any, actual: Any) -> Worst:
    """Compare two results: arrays or numbers, or dicts or tuples of them."""
    if isinstance(expected, dict):
        if [*expected] != [*actual]:  # the order is that in which norms are summed
            return Worst(None, f"names {', '.join(actual)} instead of {', '.join(expected)}")
        elements = [worst(expected[name], actual[name]).within(name) for name in expected]
        return max(elements, key=_size)
    if isinstance(expected, tuple):
        if len(expected) != len(actual):
            return Worst(None, f"{len(actual)} tensors instead of {len(expected)}")
        elements = list(map(worst, expected, actual))
        numbered = [one.within(f"[{number}]") for number, one in enumerate(elements)]
        return max(numbered if len(elements) > 1 else elements, key=_size)
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        how = ", axes swapped" if swapped(expected, actual) else ""
        return Worst(None, f"shape {actual.shape} instead of {expected.shape}{how}")
    if expected.dtype.kind == "f" and expected.dtype != actual.dtype and expected.shape:
        return Worst(None, f"{actual.dtype} instead of {expected.dtype}")
    differences = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    index = np.unravel_index(np.argmax(differences), differences.shape)  # NaN counts as largest
    largest = float(differences[index])
    where = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    if not math.isfinite(largest):
        return Worst(None, f"{where} {actual[index]}")
    return Worst(largest, where, float(expected[index]), float(actual[index]))


def swapped(expected: Any, actual: Any) -> bool:
    """Return whether an array, or one of a dict or tuple, has two axes of the expected swapped."""
    if isinstance(expected, dict):
        expected, actual = tuple(expected.values()), tuple(actual.values())
    if isinstance(expected, tuple):
        return any(map(swapped, expected, actual))
    expected, actual = np.asarray(expected), np.asarray(actual)

    def equal(array: np.ndarray) -> bool:
        return array.shape == expected.shape and np.allclose(array, expected, 1e-4, 1e-7)

    pairs = itertools.combinations(range(actual.ndim), 2)
    return not equal(actual) and any(equal(np.swapaxes(actual, *pair)) for pair in pairs)


def _size(one: Worst) -> float:
    return math.inf if one.difference is None else one.difference


def weighted_sum(result: Any) -> float:
    """Return one number for arrays, or a dict or tuple of them: a weighted sum of elements."""
    if isinstance(result, dict):
        result = tuple(result.values())
    arrays = result if isinstance(result, tuple) else (result,)
    values = np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])
    # No two weights are equal, so that a wrong order or a wrong sign changes the sum.
    return float(values @ np.cos(np.arange(1, len(values) + 1)))


@functools.cache
def recorded() -> dict[str, dict[str, float]]:
    """Return the reference's results when they were correct, by case, piece and result.

    Each as one number, in ``pinned.json``. notebooks/measure/pin.py makes that file, and says what
    else the reference is tested by.
    """
    file = importlib.resources.files("rnn_scratch") / "check" / "pinned.json"
    return msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, float]])
