"""The cases in which a backend is compared with the reference, and how two results are compared.

All sizes differ, so that no wrong axis can hide.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from .. import registry
from ..contract import Arrays, Backend, Model, Options, State
from ..initial import initial
from . import pinned

B, T, H, V, N = 5, 7, 13, 11, 3  # the text that is trained on has its own V, 28
SIGMA = 0.2
# What rounding may do in float64; in float32 it is 2**29 times as much, but no more than 0.0005.
ROUNDING = 1e-14


class Row(NamedTuple):
    """One comparison: the piece, which of its results, how far off at most and where."""

    piece: str
    result: str
    case: str  # dtype, activation, and whether there is an embedding
    difference: float | None  # None: it is not a number, or there was none to compare
    where: str
    allowed: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the difference is no larger than allowed."""
        return self.difference is not None and self.difference <= self.allowed


class Case(NamedTuple):
    """The candidate and the inputs that it and the reference are given."""

    reference: Backend
    backend: Backend
    model: str  # "scratch" or "concise"
    ours: Options
    theirs: Options
    arrays: Arrays  # of parameters
    X: np.ndarray  # (B, T)
    Y: np.ndarray  # (B, T)
    h: np.ndarray  # (B, H), a state
    short: bool  # leave out what takes long
    embedding: int  # numbers for each token; 0: one-hot

    def models(self, arrays: Arrays) -> tuple[Model, Model]:
        """A fresh model of the reference and one of the candidate, from the same parameters."""
        candidate = getattr(self.backend, self.model)(arrays, self.theirs)
        return self.reference.scratch(arrays, self.ours), candidate

    def tensor(self, array: np.ndarray) -> Any:
        """An array as the candidate's tensor."""
        return self.backend.tensor(array, self.theirs.device)

    def params(self) -> Any:
        """The parameters as the candidate's tensors."""
        return self.backend.params(self.arrays, self.theirs)

    def row(
        self, piece: str, result: str, expected: Any, found: Any,
        allowed: float = ROUNDING, note: str = "",
    ) -> Row:  # fmt: skip
        """Compare arrays, or dicts or tuples of them; the worst element makes the row."""
        difference, where = worst(expected, found)
        if self.ours.dtype == "float32":
            allowed = min(allowed, 1e-12) * 2.0**29
        row = Row(piece, result, self.name, difference, where, allowed, note)
        if self.backend is not self.reference or self.short or not pinned.holds(self.name):
            return row
        # It has agreed with itself, which proves little.
        off = pinned.difference(self.name, piece, result, found)
        kept = row._replace(difference=off, where="as pinned", allowed=max(allowed, pinned.LEAST))
        return kept if row.passed else row

    @property
    def name(self) -> str:
        """The dtype and the activation."""
        return f"{self.ours.dtype} {self.ours.activation}" + " embedding" * bool(self.embedding)


def make_case(
    backend: Backend, model: str, options: Options, short: bool = False, embedding: int = 0
) -> Case:
    """Inputs for one dtype and activation, the same at any time."""
    chance = np.random.RandomState(0)
    arrays = initial(V, H, SIGMA, 0, embedding)
    for name in ("b_h", "b_q"):  # biases of zero would hide that one is left out
        arrays[name] = chance.normal(0, SIGMA, arrays[name].shape)
    tokens = chance.randint(0, V, (B, T + 1))
    h = chance.uniform(-0.5, 0.5, (B, H)).astype(options.dtype)
    return Case(
        registry.load("numpy"), backend, model, options._replace(device="cpu"), options,
        {name: array.astype(options.dtype) for name, array in arrays.items()},
        tokens[:, :-1], tokens[:, 1:], h, short, embedding,
    )  # fmt: skip


def worst(expected: Any, found: Any) -> tuple[float | None, str]:
    """The largest difference and where it is; None where they cannot be compared."""
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return None, f"names {', '.join(found)} in place of {', '.join(expected)}"
        each = [(name, worst(expected[name], found[name])) for name in expected]
        name, (difference, where) = max(each, key=lambda one: _size(one[1][0]))
        return difference, f"{name}{where if where.startswith('[') or not where else ': ' + where}"
    if isinstance(expected, tuple):
        if len(expected) != len(found):
            return None, f"{len(found)} tensors in place of {len(expected)}"
        return max(map(worst, expected, found), key=lambda one: _size(one[0]))
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.shape != found.shape:
        return None, f"shape {found.shape} in place of {expected.shape}"
    if expected.dtype.kind == "f" and expected.dtype != found.dtype and expected.shape:
        return None, f"{found.dtype} in place of {expected.dtype}"
    differences = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    index = np.unravel_index(np.argmax(differences), differences.shape)  # NaN counts as largest
    largest = float(differences[index])
    where = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    return (largest, where) if math.isfinite(largest) else (None, f"{where} {found[index]}")


def _size(difference: float | None) -> float:
    return math.inf if difference is None else difference


def tensors_as_arrays(case: Case, tensors: State) -> tuple[np.ndarray, ...]:
    """The candidate's tensors as NumPy arrays."""
    return tuple(case.backend.array(tensor) for tensor in tensors)
