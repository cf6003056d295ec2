"""One backend compared with the NumPy reference, piece by piece.

Each piece gets the inputs that the reference would give it, so that the first row that fails names
the piece that is wrong. A piece is a function of the contract, or `to_arrays` of a model.
"""

import dataclasses
import inspect
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import registry
from ..contract import (
    MODULES,
    OPTIMIZERS,
    VARIANTS,
    Arrays,
    Backend,
    Batch,
    Options,
    Params,
    State,
    Tensor,
    Update,
)
from ..exact import FINE_GRID, GRID, STATE_GRID
from ..parameters import everything, initial
from . import inputs, machine
from .epochs import evaluate, predict, to_arrays, train_epoch, train_minibatch
from .inputs import LR, SIGMA, B, Case, Computed, H, Piece, Row, T, V, fact, make_case, not_offered

MANY_UNITS = 512  # hidden units: some frameworks share the memory of large arrays only
LARGE_V = 300  # a vocabulary for which an implementation may choose other operations


def check(
    name: str,
    backend: Backend,
    model: str = "scratch",
    cases: Sequence[Options] | None = None,
    short: bool = False,
    omit: Sequence[Piece] = (),
) -> Iterator[Row]:
    """Compare a variant of a backend's model with the reference, in each of these cases.

    `name` is the backend's; None: all of `inputs.cases`. A piece that raises is a row that fails.
    The `short` form has at most 10 updates; for less, name pieces to `omit`.
    """
    if hasattr(backend, model):
        yield from signatures(backend, model)
    if model == "scratch":
        yield from machine.devices(name, backend)
    seen = set[str]()  # dtypes
    for options in inputs.cases() if cases is None else cases:
        case = make_case(name, backend, model, options, short)
        if options.device not in backend.machine.devices(options.dtype):
            reason = f"There is no {options.dtype} on the device {options.device}."
            yield not_offered(model, case.label, reason)
            continue
        once = () if seen else ONCE
        if model == "scratch" and options.dtype not in seen:
            once += OF_A_DTYPE
        pieces = of_case(case) if options.dtype in seen else PIECES[model]
        for piece in pieces + once:
            if piece in omit:
                continue
            try:
                yield from case.rows(piece)
            except registry.NotOffered as error:
                yield not_offered(model, case.label, str(error))
                break
            except Exception as error:
                yield Row(piece.__name__, "raised", case.label, None, described(error), 0)
        else:
            seen.add(options.dtype)


def of_case(case: Case) -> tuple[Piece, ...]:
    """The pieces to check in a case that is not the first one of its dtype."""
    dtype, cell = case.options.dtype, case.options.cell
    full = dtype == "float64" and (case.plain or cell == inputs.PLAIN.cell)
    return tuple(each for each in PIECES[case.variant] if full or each not in OF_A_CELL)


def described(error: Exception) -> str:
    """The type and the first line of the message of any error."""
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {message[:200]}".rstrip(": ")


def signatures(backend: Backend, model: str) -> Iterator[Row]:
    """Whether functions take the contract's arguments: all, or the `build` of a variant."""
    modules = ["scratch", "machine", "workers"] if model == "scratch" else [model]
    for module in filter(partial(hasattr, backend), modules):  # workers may be absent
        for specification in MODULES[module]:
            name = specification.__name__
            expected = _parameters(specification)
            actual = _parameters(getattr(getattr(backend, module), name, None))
            otherwise = f"{name}{actual} instead of {name}{expected}"
            yield fact(f"{module}.{name}", actual == expected, otherwise, piece="signature")


def _parameters(function: Any) -> str:
    # The arguments without annotations, which a backend need not have.
    try:
        parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    except (TypeError, ValueError) as error:  # it is no function, or not Python's
        return f": {error}"
    return f"({', '.join(str(each.replace(annotation=each.empty)) for each in parameters)})"


# The functions of the contract, one by one.


def params(case: Case) -> Iterator[Computed | Row]:
    """The parameters are equal to the arrays that they start at, and share no memory with them."""
    model = case.model()
    yield Computed("values", model.to_arrays(model.params), allowed=0)
    many = case.options._replace(num_hiddens=MANY_UNITS)
    arrays = {
        parameter: _aligned(array.astype(case.options.dtype))
        for parameter, array in initial(many, SIGMA, 0).items()
    }
    expected = {parameter: array.copy() for parameter, array in arrays.items()}
    model = case.model(arrays)
    for array in arrays.values():
        array[...] = math.nan  # shows in the parameters if memory is shared
    yield Computed("memory of their own", model.to_arrays(model.params), expected, 0)


def _aligned(array: np.ndarray) -> np.ndarray:
    # A copy at an address that is a multiple of 64, which some frameworks need to share memory.
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    aligned[...] = array
    return aligned


def state(case: Case) -> Iterator[Computed | Row]:
    """The first state is zeros, in as many tensors as the cell has."""
    state = case.scratch.state(B, case.options)
    right, otherwise = len(state) == case.options.num_states, f"{len(state)} tensors"
    yield fact("number of tensors", right, otherwise)
    yield Computed("zeros", state, allowed=0)
    yield Computed("of the model", case.model().state(B), allowed=0)


def encode(case: Case) -> Iterator[Computed | Row]:
    """One-hot vectors, or rows of the embedding, to the last bit; the parameters stay."""
    params = case.params()
    x = case.scratch.encode(case.tensor(case.batch.X), params)
    yield Computed("vectors", x, allowed=0)
    yield Computed("parameters afterwards", params, case.arrays, 0)


def step(case: Case) -> Iterator[Computed | Row]:
    """One time step, from a state that is not zero."""
    x = case.reference.scratch.encode(case.batch.X[:, 0], case.arrays)  # (B, V)
    first = case.batch.map(lambda each: case.tensor(each[:, 0])).masks  # (B, L, H)
    inputs = case.tensor(x), case.state(), case.params(), case.options
    logits, state = case.scratch.step(*inputs, first)
    yield Computed("logits", logits)
    yield Computed("state", state)


def loss(case: Case) -> Iterator[Computed | Row]:
    """The loss of the reference's logits, and of many large ones for a large vocabulary."""
    logits, _ = case.reference.model().forward(case.batch.X, case.states)
    yield Computed("mean", case.scratch.loss(case.tensor(logits), case.tensor(case.batch.Y)))
    chance, (rows, steps) = np.random.RandomState(0), (77, 13)
    # Without the largest of a row subtracted first, the exponentials of these are infinite.
    large = chance.normal(1000, size=(rows * steps, LARGE_V)).astype(case.options.dtype)
    targets = chance.randint(0, LARGE_V, (rows, steps))
    mean = case.scratch.loss(case.tensor(large), case.tensor(targets))
    yield Computed(f"with {LARGE_V} characters", mean)


def detach(case: Case) -> Iterator[Computed | Row]:
    """No gradient flows back through a detached state."""
    # A graph over two minibatches, the state detached between them: the second's gradients must
    # be those that the reference computes for it alone, from the same state.
    batch, start = case.minibatch()
    if isinstance(batch.X, np.ndarray):
        return  # an array has no history
    model, reference = case.model(), case.reference
    _, _, after = reference.gradients()
    _, expected, _ = reference._replace(states=after).gradients()

    def both(
        tokens: Tensor, state: State, *, masks: Tensor | None = None, **params: Params
    ) -> tuple[Tensor, State]:
        _, state = model.forward(tokens, state, masks=masks, **params)
        return model.forward(tokens, case.scratch.detach(state), masks=masks, **params)

    twice = dataclasses.replace(model, forward=both, backward=None)
    _, grads, _ = case.scratch.gradients(twice, batch, start)
    yield Computed("gradients", model.to_arrays(grads), expected)
    _, _, state = case.scratch.gradients(model, batch, start)
    _, grads, _ = case.scratch.gradients(model, batch, state)
    yield Computed("gradients, from the state that they returned", model.to_arrays(grads), expected)


def clip(case: Case) -> Iterator[Computed | Row]:
    """Norm and result, where gradients are clipped, where they need not be, and without a θ."""
    _, grads, _ = case.reference.gradients()
    norm = float(case.reference.scratch.clip(grads, None)[1])
    thetas = {"θ half the norm": norm / 2, "θ twice the norm": norm * 2, "no θ": None}
    thetas["θ above 1 and the norm"] = 2 * max(1, norm)
    for name, theta in thetas.items():
        tensors = {parameter: case.tensor(grad.copy()) for parameter, grad in grads.items()}
        clipped, own_norm = case.scratch.clip(tensors, theta)
        yield Computed(f"norm, {name}", own_norm)
        yield Computed(f"result, {name}", clipped)
    zeros = {parameter: case.tensor(grad * 0) for parameter, grad in grads.items()}
    yield Computed("result, gradients of zero", case.scratch.clip(zeros, 1.0)[0])
    # A framework may have its own form of gradients, rows of an embedding for instance.
    _, own, _ = case.scratch.gradients(case.model(), *case.minibatch())
    yield Computed("norm, its own gradients", case.scratch.clip(own, None)[1])


def rounded(case: Case) -> Iterator[Computed | Row]:
    """To the grids of exact mode, midpoints of two multiples included, and without a grid."""
    values = case.states[0].astype(case.options.dtype)
    yield Computed("without a grid", case.scratch.rounded(case.tensor(values), None), values, 0)
    for grid in (GRID, STATE_GRID) if case.options.dtype == "float64" else ():
        ties = np.round(values / grid) * grid + grid / 2
        for name, each in (("values", values), ("ties", ties)):
            label = f"{name}, to multiples of {grid:.0e}"
            yield Computed(label, case.scratch.rounded(case.tensor(each), grid), allowed=0)


def update(case: Case) -> Iterator[Computed | Row]:
    """Plain steps and those of all optimizers, also on the grids of exact mode."""
    _, grads, _ = case.reference.gradients()
    trials = {"plain": Update(LR), "with a learning rate above 1": Update(3.0)}
    if case.options.dtype == "float64":  # the only one with exact mode
        trials["on the grid"] = Update(LR, grid=GRID)
    for name, how in trials.items():
        # A model of the backend, because some tensors of a framework cannot be updated in place.
        model = case.model()
        tensors = {parameter: case.tensor(grad) for parameter, grad in grads.items()}
        case.scratch.update(model, tensors, how)
        allowed = 0 if how.grid else inputs.ROUNDING
        yield Computed(name, model.to_arrays(model.params), allowed=allowed)
    for optimizer in OPTIMIZERS:
        for grid in (None, FINE_GRID) if case.options.dtype == "float64" else (None,):
            how = Update(0, None, grid, None, 1, optimizer, 0.1, grid)
            model = case.model(optimizer=optimizer)
            for number in range(1, 4):
                tensors = {name: case.tensor(grad * number) for name, grad in grads.items()}
                case.scratch.update(model, tensors, how, case.rates(number))
            name = f"{optimizer} with weight decay" + (", on the grid" if grid else "")
            yield Computed(name, everything(model), allowed=0 if grid else inputs.ROUNDING)


# The functions of the model, in all variants.


def forward(case: Case) -> Iterator[Computed | Row]:
    """All time steps at once equal a loop over `step`, the reference's and the backend's own."""
    model = case.model()
    logits, state = model.forward(case.tensor(case.batch.X), case.state(), masks=case.masks())
    yield Computed("logits", logits)
    yield Computed("state", state)
    params, looped, looped_state = case.params(), [], case.state()
    for t in range(T):
        now = Batch(*(each if each is None else case.tensor(each[:, t]) for each in case.batch[:3]))
        x = case.scratch.encode(now.X, params)
        each, looped_state = case.scratch.step(x, looped_state, params, case.options, now.masks)
        looped.append(case.as_arrays(each))
    yield Computed("logits of a loop over its own step", logits, np.concatenate(looped))
    yield Computed("state of a loop over its own step", state, looped_state)
    # A text is generated token by token, and an implementation may choose other operations then.
    one, _ = model.forward(case.tensor(case.batch.X[:1, :1]), case.state(1))
    yield Computed("logits of one token", one)
    yield Computed("parameters afterwards", model.to_arrays(model.params), case.arrays, 0)


def gradients(case: Case) -> Iterator[Computed | Row]:
    """Loss, each gradient, and the state for the next minibatch."""
    model, (batch, start) = case.model(), case.minibatch()
    loss, own, state = case.scratch.gradients(model, batch, start)
    other = batch._replace(X=batch.Y, Y=batch.X)
    case.scratch.gradients(model, other, start)  # neither is added to the first nor replaces it
    grads = model.to_arrays(own)
    if case.is_reference and case.options.dtype == "float64":
        yield from finite_differences(case, grads)
    yield Computed("loss", loss)
    for name in case.arrays:
        yield Computed(name, {name: grads[name]})
    yield Computed("state", state)
    if case.options.activation == "tanh":
        token = case.of_rows(slice(3, 4))  # whose gradients are large, also as they are no means
        grads = token.gradients(batch=token.batch.map(lambda each: each[:, :1]))[1]
        yield Computed("of one token", grads, allowed=10 * inputs.ROUNDING)
        large = initial(case.options._replace(vocab_size=LARGE_V), SIGMA, 0)
        X, Y = (tokens * (LARGE_V // V) for tokens in case.batch[:2])
        # Layers without dropout have gradients of their own.
        _, grads, _ = case.gradients(large, case.batch._replace(X=X, Y=Y, masks=None))
        yield Computed(f"with {LARGE_V} characters", grads)
    else:
        # For half of the units what goes into ReLU is 0, whose slope there is 0.
        zeros = {name: array.copy() for name, array in case.arrays.items()}
        for name in zeros.keys() - {"W_e", "W_hq", "b_q"}:
            zeros[name][..., : H // 2] = 0
        yield Computed("slope of ReLU at 0", case.gradients(zeros)[1])


def finite_differences(case: Case, grads: Arrays) -> Iterator[Computed]:
    """Of each parameter: the slope of the loss in some direction, and the central difference."""
    chance = np.random.RandomState(0)
    batch, state = case.minibatch()
    for name, array in case.arrays.items():
        direction = chance.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        losses = []
        for distance in (1e-5, -1e-5):
            model = case.model({**case.arrays, name: array + distance * direction})
            logits, _ = model.forward(batch.X, state, masks=batch.masks)
            losses.append(float(case.scratch.loss(logits, batch.Y)))
        slope, difference = float((grads[name] * direction).sum()), (losses[0] - losses[1]) / 2e-5
        yield Computed(f"{name}, by finite differences", slope, difference, 1e-9)


# Each piece before those that use it, so that the first one that fails is the one to correct.
TRAINING: tuple[Piece, ...] = (train_minibatch, to_arrays, train_epoch, evaluate, predict)
# Those that do the same with any model: of each cell, but what is tried with the first cell only.
OF_A_CELL: tuple[Piece, ...] = (
    machine.tensor,
    loss,
    detach,
    rounded,
    update,
    *TRAINING[1:],
)
OF_A_MODEL: tuple[Piece, ...] = (params, state, forward, gradients, *TRAINING)
OF_SCRATCH: tuple[Piece, ...] = (
    machine.tensor,
    params,
    state,
    encode,
    step,
    forward,
    loss,
    gradients,
    detach,
    clip,
    rounded,
    update,
    *TRAINING,
)
PIECES = {**dict.fromkeys(VARIANTS, OF_A_MODEL), "scratch": OF_SCRATCH}
# Those that are the same in all cases, and in all of a dtype.
ONCE: tuple[Piece, ...] = (machine.set_eager,)
OF_A_DTYPE: tuple[Piece, ...] = (machine.multiply, machine.synchronize)  # of ``scratch``
