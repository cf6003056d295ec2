"""The cases in which a backend is compared with the reference: models, and inputs for functions.

All sizes differ, so that no wrong axis can hide.
"""

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from .. import registry
from ..contract import (
    CELLS,
    Arrays,
    Backend,
    Batch,
    Model,
    Options,
    Params,
    Rates,
    State,
    Tensor,
)
from ..parameters import initial
from ..runs import exchange, schedule
from .results import (
    FILES,
    LEAST,
    RECORDED,
    Computed,
    Row,
    fact,
    recorded,
    tolerance,
    weighted_sum,
    worst,
)

# Few time steps, as a compiler takes its time for each; but B*T is more than a text's V, 28.
B, T, H, V = 12, 4, 13, 11
SIGMA = 0.2
LARGE_B, LARGE_H = 128, 512  # for the operations that an optimized model has for large tensors
LR = 0.3  # which no float32 is equal to
DTYPES = "float64", "float32"
PLAIN = Options(V, H)  # from which the other cases differ
DEEP = PLAIN._replace(embedding=5, dropout=0.4, num_layers=3)
STACKED = PLAIN._replace(num_layers=3)  # which a framework may have a layer for
LARGE = PLAIN._replace(num_hiddens=LARGE_H)


class Case(NamedTuple):
    """A model to check and the inputs of its functions."""

    name: str  # of the backend
    backend: Backend
    variant: str  # of the model, one of VARIANTS
    options: Options
    arrays: Arrays  # of parameters
    batch: Batch  # of arrays (B, T)
    states: tuple[np.ndarray, ...]  # (B, H) each
    short: bool  # leave out what takes long

    @property
    def reference(self) -> "Case":
        """The same inputs for the reference."""
        options = self.options._replace(device="cpu")
        reference = registry.load("numpy")
        return self._replace(name="numpy", backend=reference, variant="scratch", options=options)

    @property
    def is_reference(self) -> bool:
        """Whether this is the reference itself."""
        return self.variant == "scratch" and self.backend is registry.load("numpy")

    @property
    def scratch(self) -> ModuleType:
        """The backend's functions."""
        return self.backend.scratch

    def of_rows(self, rows: slice) -> "Case":
        """Return the case of some rows of its minibatch."""
        states = tuple(array[rows] for array in self.states)
        return self._replace(batch=exchange.rows_of(self.batch, rows), states=states)

    def model(self, arrays: Arrays | None = None, optimizer: str = "sgd") -> Model:
        """Return a new model with these parameters, by default the case's."""
        arrays = arrays or self.arrays
        num_hiddens, vocab_size = arrays["W_hq"].shape
        options = self.options._replace(vocab_size=vocab_size, num_hiddens=num_hiddens)
        return registry.build(self.name, self.backend, self.variant, arrays, options, optimizer)

    def params(self) -> Params:
        """Return the parameters as tensors of ``scratch``."""
        return self.scratch.params(self.arrays, self.options)

    def step(self, x: Tensor, state: State, params: Params, t: int) -> tuple[Tensor, State]:
        """Call the backend's time step, or that of its deep networks with the masks of step t."""
        if not self.options.deep:
            return self.scratch.step(x, state, params, self.options)
        masks = None if self.batch.masks is None else self.tensor(self.batch.masks[t])
        return self.backend.deep.deep_step((x, masks), state, params, self.options)

    def name_of(self, piece: "Piece") -> str:
        """Return the function of the contract that a piece compares in this case."""
        name = piece.__name__
        if name == "cell":
            return self.options.cell.replace("-", "_")
        deep = self.options.deep and self.variant == "scratch" and name in ("step", "forward")
        return f"deep_{name}" if deep else name

    def file_of(self, function: str) -> str:
        """Return the file that a function of the contract is in, for this variant of the model."""
        of_variant = self.variant != "scratch" and function in ("params", "forward", "gradients")
        return f"{self.variant}.py" if of_variant else FILES.get(function, "")

    def tensor(self, array: np.ndarray) -> Tensor:
        """Return the array as a tensor of the backend."""
        return self.backend.machine.tensor(array, self.options.device)

    def state(self, rows: int | None = None) -> State:
        """Return the state, or the first rows of it, as tensors of the backend."""
        return tuple(self.tensor(array[:rows]) for array in self.states)

    def minibatch(self) -> tuple[Batch, State]:
        """Return the minibatch and the state as tensors of the backend."""
        return self.batch.map(self.tensor), self.state()

    def gradients(
        self, arrays: Arrays | None = None, batch: Batch | None = None
    ) -> tuple[Tensor, Arrays, State]:
        """Return loss, gradients and state of the case's minibatch, or of another one."""
        model, batch = self.model(arrays), batch or self.batch
        tensors, state = batch.map(self.tensor), self.state(len(batch.X))
        loss, grads, state = self.scratch.gradients(model, tensors, state)
        return loss, model.to_arrays(grads), state

    def as_arrays(self, value: Any) -> Any:
        """Return tensors of the backend, alone or in a dict or tuple, as arrays."""
        if isinstance(value, dict):
            return {name: self.as_arrays(each) for name, each in value.items()}
        if isinstance(value, tuple | list):
            return tuple(map(self.as_arrays, value))
        if isinstance(value, float | int | np.generic) or type(value) is np.ndarray:
            return value
        return self.backend.machine.array(value)

    @property
    def label(self) -> str:
        """Dtype, cell, and what else the case tries."""
        o = self.options
        others = [name for name in ("embedding", "dropout") if getattr(o, name)]
        layers = [f"{o.num_layers} layers"] if o.num_layers > 1 else []
        units = [f"{o.num_hiddens} units"] if self.large else []
        return " ".join((o.dtype, o.cell, *others, *layers, *units))

    @property
    def large(self) -> bool:
        """Whether it is a case of large tensors."""
        return self.options.num_hiddens == LARGE_H

    def rates(self, lr: float, optimizer: str = "sgd", update: int = 1) -> Rates:
        """Return the rates of an optimizer's update, as tensors of the backend."""
        rates = schedule.rates(optimizer, lr, update, self.options.dtype)
        return Rates(*(self.tensor(each) for each in rates if each is not None))

    def rows(self, piece: "Callable[..., Iterator[Computed | Row]]", *more: Any) -> Iterator[Row]:
        """Compare what a piece computes with this model with what it computes with the reference.

        The reference's own results are compared with recorded ones, as compared with itself it
        would agree, whatever mistake is made in it.
        """
        of_reference: dict[str, Any] = {}
        name = self.name_of(piece)
        for result in self._results(piece, *more):
            if isinstance(result, Row):
                yield replace(result, piece=name, case=self.label, file=self.file_of(name))
            elif result.expected is not None:
                yield self.row(name, result)
            elif self.is_reference:
                yield self._recorded(name, result)
            else:
                if not of_reference:
                    each = (r for r in piece(self.reference) if isinstance(r, Computed))
                    of_reference = {r.name: self.reference.as_arrays(r.value) for r in each}
                yield self.row(name, result._replace(expected=of_reference[result.name]))

    def _results(self, piece: "Piece", *more: Any) -> Iterator[Computed | Row]:
        # And a row for the device of all tensors among them, which has to be the model's.
        devices = set[str]()
        for result in piece(self, *more):
            if isinstance(result, Computed):
                devices |= devices_of((result.value, result.tensors))
            yield result
        if devices:
            own = self.tensor(self.arrays["b_q"])
            right = devices_of((own, own + 0) if piece.__name__ in PARTS else own)
            others = ", ".join(sorted(devices - right))
            yield fact("device", not others, f"on {others} instead of {self.options.device}")

    def row(self, piece: str, result: Computed) -> Row:
        """Compare a result with what is expected; its worst element determines the row."""
        most = worst(self.as_arrays(result.expected), self.as_arrays(result.value))
        allowed = tolerance(result.allowed, self.options.dtype, self.options.device)
        return Row(
            piece=piece,
            result=result.name,
            case=self.label,
            allowed=allowed,
            note=result.note,
            file=self.file_of(piece),
            **most._asdict(),
        )

    def _recorded(self, piece: str, result: Computed) -> Row:
        row = self.row(piece, result._replace(expected=result.value))
        expected = recorded().get(self.label, {}).get(f"{piece}: {result.name}")
        if expected is not None and row.passed and not self.short:
            row.expected, row.actual = expected, weighted_sum(result.value)
            row.difference = abs(row.actual - expected)
            row.where, row.allowed = RECORDED, max(row.allowed, LEAST)
        return row


def devices_of(value: Any) -> set[str]:
    """Return the devices of tensors, alone or in dicts or tuples, in the framework's words."""
    if isinstance(value, dict | tuple):
        each = value.values() if isinstance(value, dict) else value
        return set().union(*map(devices_of, each))
    device = getattr(value, "device", getattr(value, "ctx", None))
    return set() if device is None or isinstance(value, np.ndarray | np.generic) else {str(device)}


# Pieces of functions that a model's functions call. When the check calls them, TensorFlow computes
# on a GPU if there is one, wherever the tensors are.
PARTS = "encode", "cell", "step", "loss", "clip", "rounded"

# A function of the contract with inputs that the reference would give it.
Piece = Callable[[Case], Iterator[Computed | Row]]


def cases(
    device: str = "cpu", cells: Sequence[str] = (), variant: str = "scratch"
) -> list[Options]:
    """Return the options to check, by dtype: each cell's plain model, and deep and large ones."""
    every = []
    for dtype in DTYPES:
        for cell in cells or CELLS:
            tried = [PLAIN]
            if dtype == "float64" or cell == PLAIN.cell:
                tried.append(DEEP)
            if dtype == "float32" and cell in ("rnn", "lstm"):  # one tensor of each layer, and two
                tried.append(STACKED)
            if dtype == "float32" and variant == "fast":
                tried.append(LARGE)
            every += [each._replace(cell=cell, dtype=dtype, device=device) for each in tried]
    return every


def in_each_dtype(options: Options) -> list[Options]:
    """Return these options in each of the floating-point types."""
    return [options._replace(dtype=dtype) for dtype in DTYPES]


def make_case(
    name: str, backend: Backend, variant: str, options: Options, short: bool = False
) -> Case:
    """Return inputs for a model with these options, always the same."""
    # States of which some are large, so that a function of limited range shows.
    rng, rows, sigma, largest = np.random.RandomState(0), B, SIGMA, 8
    if options.num_hiddens == LARGE_H:  # many terms of a sum are rounded more
        rows, sigma, largest = LARGE_B, SIGMA / 10, 1
    arrays = initial(options, sigma, 0)
    for parameter in arrays:
        if parameter.startswith("b_"):  # biases of zero would hide that one is left out
            arrays[parameter] = rng.normal(0, sigma, arrays[parameter].shape)
    if "W_e" in arrays:
        arrays["W_e"] *= 8  # rows of norms above 1, which some frameworks would cut on request
    tokens = rng.randint(0, V, (rows, T + 1), "int64")
    shape = rows, options.num_hiddens
    states = [rng.uniform(-largest, largest, shape) for _ in range(options.num_states)]
    rates = Rates(np.asarray(LR, options.dtype))
    return Case(
        name,
        backend,
        variant,
        options,
        {parameter: array.astype(options.dtype) for parameter, array in arrays.items()},
        Batch(tokens[:, :-1], tokens[:, 1:], masks(options, rng), rates),
        tuple(array.astype(options.dtype) for array in states),
        short,
    )


def masks(options: Options, rng: np.random.RandomState) -> np.ndarray | None:
    """Return masks for a minibatch, other ones at each call; None without dropout."""
    if not options.dropout:
        return None
    kept = rng.uniform(size=(T, options.num_layers, B, H)) >= options.dropout
    return np.multiply(kept, 1 / (1 - options.dropout), dtype=options.dtype)
