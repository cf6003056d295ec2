"""The cases in which a backend is compared with the reference, and how two results are compared.

All sizes differ, so that no wrong axis can hide.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs

from .. import registry
from ..contract import (
    CELLS,
    TRIED,
    Arrays,
    Backend,
    Batch,
    Model,
    Options,
    Params,
    State,
    Tensor,
)
from ..parameters import initial
from ..system.records import Record
from . import pinned

# Few time steps, as a compiler takes its time for each; but B*T is more than a text's V, 28.
B, T, H, V = 8, 4, 13, 11
SIGMA = 0.2
DTYPES = "float64", "float32"
PLAIN = Options(V, H)  # from which the other cases differ

# What rounding may change in float64, on any device. In float32 it is 2**29 times as much, as a
# float32 has 29 bits fewer, but at most 0.0005; and on a GPU, whose functions are less accurate
# in float32 and whose sums are taken in other orders, a multiple of that.
ROUNDING = 1e-14
FLOAT32 = {"cpu": 2.0**29, "cuda": 2.0**31}
OTHER_DEVICES = 2.0**33


def tolerance(difference: float, dtype: str, device: str) -> float:
    """The difference to allow where this one is allowed in float64."""
    if dtype == "float64":
        return difference
    return min(difference, 1e-12) * FLOAT32.get(device, OTHER_DEVICES)


class Row(Record):
    """One comparison: of which piece and which of its results, the largest difference and where."""

    piece: str  # a function of the contract
    result: str
    case: str  # dtype, cell, activation, and whether there is an embedding
    difference: float | None  # None: it is not a number, or there is nothing to compare
    where: str
    allowed: float
    note: str = ""
    offered: bool = True

    @property
    def passed(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.difference is not None and self.difference <= self.allowed


def not_offered(piece: str, case: str, reason: str) -> Row:
    """The row of what a backend says that it does not have."""
    return Row(piece, "", case, 0.0, "", 0.0, reason.splitlines()[0], offered=False)


def fact(piece: str, result: str, case: str, true: bool, otherwise: str, note: str = "") -> Row:
    """The row of what is either so or not; `otherwise` says what is so instead."""
    return Row(piece, result, case, 0.0 if true else None, "" if true else otherwise, 0.0, note)


class Case(NamedTuple):
    """The model to check, and the inputs of both backends."""

    reference: Backend
    name: str  # of the backend
    backend: Backend
    model: str  # one of VARIANTS
    options: Options
    arrays: Arrays  # of parameters
    batch: Batch  # of arrays (B, T)
    states: tuple[np.ndarray, ...]  # (B, H) each
    short: bool  # leave out what takes long

    def models(self, arrays: Arrays) -> tuple[Model, Model]:
        """A new model of the reference and one of the backend, with the same parameters."""
        H, V = arrays["W_hq"].shape
        options = self.options._replace(vocab_size=V, num_hiddens=H)
        reference = self.reference.scratch.build(arrays, options._replace(device="cpu"))
        return reference, registry.build(self.name, self.backend, self.model, arrays, options)

    def params(self) -> Params:
        """The parameters as tensors of ``scratch``."""
        return self.backend.scratch.params(self.arrays, self.options)

    def tensor(self, array: np.ndarray) -> Tensor:
        """The array as a tensor of the backend."""
        return self.backend.machine.tensor(array, self.options.device)

    def state(self, rows: int = B) -> State:
        """The first rows of the state as tensors of the backend."""
        return tuple(self.tensor(array[:rows]) for array in self.states)

    def minibatch(self) -> tuple[Batch, State]:
        """The minibatch and the state as tensors of the backend."""
        return self.batch.map(self.tensor), self.state()

    def array(self, tensor: Tensor) -> np.ndarray:
        """The backend's tensor as an array."""
        return self.backend.machine.array(tensor)

    def state_arrays(self, state: State) -> tuple[np.ndarray, ...]:
        """The backend's state as arrays."""
        return tuple(map(self.array, state))

    @property
    def label(self) -> str:
        """Dtype, cell, activation, and the names of the other options that the case tries."""
        o = self.options
        others = [name for name in TRIED if name != "activation" and getattr(o, name)]
        return " ".join((o.dtype, o.cell, o.activation, *others))

    @property
    def plain(self) -> bool:
        """Whether it is a case of nothing but a cell and a dtype."""
        return all(getattr(self.options, name) == getattr(PLAIN, name) for name in TRIED)

    def compare(
        self,
        piece: str,
        result: str,
        expected: Any,
        actual: Any,
        allowed: float = ROUNDING,
        note: str = "",
    ) -> Row:
        """Compare arrays, or dicts or tuples of them; the worst element determines the row."""
        difference, where = worst(expected, actual)
        allowed = tolerance(allowed, self.options.dtype, self.options.device)
        return Row(piece, result, self.label, difference, where, allowed, note)

    def row(
        self,
        piece: str,
        result: str,
        expected: Any,
        actual: Any,
        allowed: float = ROUNDING,
        note: str = "",
    ) -> Row:
        """Compare with the reference's result; the reference's own is compared with a pinned one.

        Compared with itself it would agree, whatever mistake is made in it.
        """
        row = self.compare(piece, result, expected, actual, allowed, note)
        is_reference = self.backend is self.reference and self.model == "scratch"
        if not is_reference or self.short or not pinned.covers(self.label) or not row.passed:
            return row
        difference = pinned.difference(self.label, piece, result, actual)
        allowed = max(row.allowed, pinned.LEAST)
        return structs.replace(row, difference=difference, where="recorded value", allowed=allowed)


def cases(device: str = "cpu", cells: Sequence[str] = ()) -> list[Options]:
    """The options to check, by dtype: of each cell the plain model, and what the contract tries."""
    every = []
    for dtype in DTYPES:
        for cell in cells or CELLS:
            plain = PLAIN._replace(cell=cell, dtype=dtype, device=device)
            every.append(plain)
            for name, value in TRIED.items():
                # What another option changes, float64 shows. (MXNet's layer has no ReLU in it.)
                if dtype == "float64" or (cell, name) == ("rnn", "activation"):
                    every.append(plain._replace(**{name: value}))
    return every


def in_each_dtype(options: Options) -> list[Options]:
    """These options in each of the floating-point types."""
    return [options._replace(dtype=dtype) for dtype in DTYPES]


def make_case(
    name: str, backend: Backend, model: str, options: Options, short: bool = False
) -> Case:
    """Inputs for a model with these options, always the same."""
    chance = np.random.RandomState(0)
    arrays = initial(options, SIGMA, 0)
    for parameter in arrays:
        if parameter.startswith("b_"):  # biases of zero would hide that one is left out
            arrays[parameter] = chance.normal(0, SIGMA, arrays[parameter].shape)
    tokens = chance.randint(0, V, (B, T + 1))
    states = [chance.uniform(-0.5, 0.5, (B, H)) for _ in range(options.num_states)]
    return Case(
        registry.load("numpy"),
        name,
        backend,
        model,
        options,
        {parameter: array.astype(options.dtype) for parameter, array in arrays.items()},
        Batch(tokens[:, :-1], tokens[:, 1:]),
        tuple(array.astype(options.dtype) for array in states),
        short,
    )


def worst(expected: Any, actual: Any) -> tuple[float | None, str]:
    """The largest difference and where it is; None where they cannot be compared."""
    if isinstance(expected, dict):
        if expected.keys() != actual.keys():
            return None, f"names {', '.join(actual)} instead of {', '.join(expected)}"
        each = [(name, worst(expected[name], actual[name])) for name in expected]
        name, (difference, where) = max(each, key=lambda one: _size(one[1][0]))
        return difference, f"{name}{where if where.startswith('[') or not where else ': ' + where}"
    if isinstance(expected, tuple):
        if len(expected) != len(actual):
            return None, f"{len(actual)} tensors instead of {len(expected)}"
        return max(map(worst, expected, actual), key=lambda one: _size(one[0]))
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        return None, f"shape {actual.shape} instead of {expected.shape}"
    if expected.dtype.kind == "f" and expected.dtype != actual.dtype and expected.shape:
        return None, f"{actual.dtype} instead of {expected.dtype}"
    differences = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    index = np.unravel_index(np.argmax(differences), differences.shape)  # NaN counts as largest
    largest = float(differences[index])
    where = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    return (largest, where) if math.isfinite(largest) else (None, f"{where} {actual[index]}")


def _size(difference: float | None) -> float:
    return math.inf if difference is None else difference
