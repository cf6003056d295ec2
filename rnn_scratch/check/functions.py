"""One backend compared with the NumPy reference, piece by piece.

Each piece gets the inputs that the reference would give it, so that the first row that fails names
the piece that is wrong. A piece is a function of the contract, or `to_arrays` of a model.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import registry
from ..contract import VARIANTS, Arrays, Backend, Batch, Options, Params, State, Tensor, Update
from ..exact import GRID
from ..parameters import initial
from . import inputs, machine
from .epochs import LR, evaluate, predict, train_epoch, train_minibatch
from .inputs import ROUNDING, SIGMA, B, Case, H, Row, T, fact, make_case, not_offered
from .signatures import signatures

MANY = 512  # hidden units: some frameworks share the memory of large arrays only
LARGE_V = 131  # a vocabulary for which an implementation may choose other operations


def check(
    name: str,
    backend: Backend,
    model: str = "scratch",
    cases: Sequence[Options] | None = None,
    short: bool = False,
    omit: Sequence["Piece"] = (),
) -> Iterator[Row]:
    """Compare a variant of a backend's model with the reference, in each of these cases.

    `name` is the backend's; None: all of `inputs.cases`. A piece that raises is a row that fails.
    The `short` form has at most 10 updates; for less, name pieces to `omit`.
    """
    if hasattr(backend, model):
        yield from signatures(backend, model)
    if model == "scratch":
        yield from machine.devices(name, backend)
    every = inputs.cases() if cases is None else cases
    for (dtype, device), group in itertools.groupby(every, lambda each: (each.dtype, each.device)):
        if device not in backend.machine.devices(dtype):
            yield not_offered(model, dtype, f"There is no {dtype} on the device {device}.")
            continue
        once = ONCE[model]
        for options in group:
            case = make_case(name, backend, model, options, short)
            try:
                case.models(case.arrays)
            except registry.NotOffered as error:
                yield not_offered(model, case.label, str(error))
                continue
            except Exception:
                pass  # the piece that is wrong will show it
            for piece in (*PIECES[model], *once):
                if piece in omit:
                    continue
                try:
                    yield from piece(case)
                except Exception as error:
                    message = (str(error).strip().splitlines() or [""])[0]
                    where = f"{type(error).__name__}: {message}"
                    yield Row(piece.__name__, "raised", case.label, None, where, 0)
            once = ()


# The functions of the contract, one by one.


def params(case: Case) -> Iterator[Row]:
    """The parameters are equal to the arrays that they start at, and share no memory with them."""
    _, candidate = case.models(case.arrays)
    yield case.row("params", "values", case.arrays, candidate.to_arrays(candidate.params), 0)
    many = case.options._replace(num_hiddens=MANY)
    arrays = {
        parameter: _aligned(array.astype(case.options.dtype))
        for parameter, array in initial(many, SIGMA, 0).items()
    }
    expected = {parameter: array.copy() for parameter, array in arrays.items()}
    _, candidate = case.models(arrays)
    for array in arrays.values():
        array[...] = math.nan  # shows in the parameters if memory is shared
    actual = candidate.to_arrays(candidate.params)
    yield case.compare("params", "memory of their own", expected, actual, 0)


def _aligned(array: np.ndarray) -> np.ndarray:
    # A copy at an address that is a multiple of 64, which some frameworks need to share memory.
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    aligned[...] = array
    return aligned


def state(case: Case) -> Iterator[Row]:
    """The first state is zeros, in as many tensors as the cell has."""
    model, candidate = case.models(case.arrays)
    expected = model.state(B)
    actual = case.state_arrays(case.backend.scratch.state(B, case.options))
    right, otherwise = len(actual) == case.options.num_states, f"{len(actual)} tensors"
    yield fact("state", "number of tensors", case.label, right, otherwise)
    yield case.row("state", "zeros", expected, actual, 0)
    yield case.row("state", "of the model", expected, case.state_arrays(candidate.state(B)), 0)


def encode(case: Case) -> Iterator[Row]:
    """One-hot vectors, or rows of the embedding, to the last bit."""
    actual = case.array(case.backend.scratch.encode(case.tensor(case.batch.X), case.params()))
    expected = case.reference.scratch.encode(case.batch.X, case.arrays)
    yield case.row("encode", "vectors", expected, actual, 0)


def step(case: Case) -> Iterator[Row]:
    """One time step, from a state that is not zero."""
    x = case.reference.scratch.encode(case.batch.X[:, 0], case.arrays)  # (B, V)
    expected, expected_state = case.reference.scratch.step(
        x, case.states, case.arrays, case.options
    )
    actual, actual_state = case.backend.scratch.step(
        case.tensor(x), case.state(), case.params(), case.options
    )
    yield case.row("step", "logits", expected, case.array(actual))
    yield case.row("step", "state", expected_state, case.state_arrays(actual_state))


def loss(case: Case) -> Iterator[Row]:
    """The loss of the reference's logits."""
    logits, _ = case.reference.scratch.forward(case.batch.X, case.states, case.arrays, case.options)
    expected = case.reference.scratch.loss(logits, case.batch.Y)
    actual = case.backend.scratch.loss(case.tensor(logits), case.tensor(case.batch.Y))
    yield case.row("loss", "mean", expected, case.array(actual))


def detach(case: Case) -> Iterator[Row]:
    """No gradient flows back through a detached state."""
    # A graph over two minibatches, the state detached between them: the second's gradients must
    # be those that the reference computes for it alone, from the same state.
    model, candidate = case.models(case.arrays)
    batch, start = case.minibatch()
    if isinstance(batch.X, np.ndarray):
        return  # an array has no history
    _, _, state = case.reference.scratch.gradients(model, case.batch, case.states)
    _, expected, _ = case.reference.scratch.gradients(model, case.batch, state)

    def both(tokens: Tensor, state: State, **params: Params) -> tuple[Tensor, State]:
        _, state = candidate.forward(tokens, state, **params)
        return candidate.forward(tokens, case.backend.scratch.detach(state), **params)

    _, actual, _ = case.backend.scratch.gradients(
        dataclasses.replace(candidate, forward=both, backward=None), batch, start
    )
    yield case.row("detach", "gradients", expected, candidate.to_arrays(actual))


def clip(case: Case) -> Iterator[Row]:
    """Norm and result, where gradients are clipped, where they need not be, and without a θ."""
    scratch = case.backend.scratch
    model, candidate = case.models(case.arrays)
    _, grads, _ = case.reference.scratch.gradients(model, case.batch, case.states)
    _, norm = case.reference.scratch.clip(grads, None)
    thetas = {"θ half the norm": norm / 2, "θ twice the norm": norm * 2, "no θ": None}
    for result, theta in thetas.items():
        theta = None if theta is None else float(theta)
        expected, expected_norm = case.reference.scratch.clip(grads, theta)
        tensors = {parameter: case.tensor(grad.copy()) for parameter, grad in grads.items()}
        actual, actual_norm = scratch.clip(tensors, theta)
        yield case.row("clip", f"norm, {result}", expected_norm, case.array(actual_norm))
        arrays = {parameter: case.array(grad) for parameter, grad in actual.items()}
        yield case.row("clip", f"result, {result}", expected, arrays)
    # A framework may have its own form of gradients, rows of an embedding for instance.
    _, own, _ = scratch.gradients(candidate, *case.minibatch())
    _, actual_norm = scratch.clip(own, None)
    yield case.row("clip", "norm, its own gradients", norm, case.array(actual_norm))


def update(case: Case) -> Iterator[Row]:
    """A plain step, and steps on the grid of exact mode, midpoints of two multiples included."""
    model, _ = case.models(case.arrays)
    _, grads, _ = case.reference.scratch.gradients(model, case.batch, case.states)
    ties = {name: np.round(grad / GRID) * GRID + GRID / 2 for name, grad in grads.items()}
    trials = [("plain", grads, Update(LR), ROUNDING)]
    if case.options.dtype == "float64":  # the only one with exact mode
        trials += [
            ("on the grid", grads, Update(LR, grid=GRID), 0),
            ("ties on the grid", ties, Update(grid=GRID), 0),
        ]
    for result, arrays, how, allowed in trials:
        # A model of the backend, because some tensors of a framework cannot be updated in place.
        expected, candidate = case.models(case.arrays)
        case.reference.scratch.update(expected.params, arrays, how)
        tensors = {name: case.tensor(grad) for name, grad in arrays.items()}
        case.backend.scratch.update(candidate.params, tensors, how)
        actual = candidate.to_arrays(candidate.params)
        yield case.row("update", result, expected.params, actual, allowed)


# The functions of the model, in all variants.


def forward(case: Case) -> Iterator[Row]:
    """All time steps at once equal a loop over `step`, the reference's and the backend's own."""
    _, candidate = case.models(case.arrays)
    reference, own = case.reference.scratch, case.backend.scratch
    expected, expected_state = _loop(
        reference.encode, reference.step, case.batch.X, case.states, case.arrays, case.options
    )
    actual, actual_state = candidate.forward(case.tensor(case.batch.X), case.state())
    logits, state = case.array(actual), case.state_arrays(actual_state)
    yield case.row("forward", "logits", np.concatenate(expected), logits)
    yield case.row("forward", "state", expected_state, state)

    looped, looped_state = _loop(
        lambda tokens, params: own.encode(case.tensor(tokens), params),
        own.step,
        case.batch.X,
        case.state(),
        case.params(),
        case.options,
    )
    loop = np.concatenate([case.array(each) for each in looped])
    yield case.compare("forward", "logits of a loop over its own step", loop, logits)
    yield case.compare(
        "forward", "state of a loop over its own step", case.state_arrays(looped_state), state
    )
    # A text is generated token by token, and an implementation may choose other operations then.
    actual, _ = candidate.forward(case.tensor(case.batch.X[:1, :1]), case.state(1))
    yield case.row("forward", "logits of one token", expected[0][:1], case.array(actual))


def _loop(
    encode: Callable, step: Callable, X: np.ndarray, state: State, params: Any, options: Options
) -> tuple[list[Tensor], State]:
    logits = []
    for t in range(T):
        each, state = step(encode(X[:, t], params), state, params, options)
        logits.append(each)
    return logits, state


def gradients(case: Case) -> Iterator[Row]:
    """Loss, each gradient, and the state for the next minibatch."""
    model, candidate = case.models(case.arrays)
    loss, grads, state = case.reference.scratch.gradients(model, case.batch, case.states)
    actual_loss, tensors, actual_state = case.backend.scratch.gradients(
        candidate, *case.minibatch()
    )
    actual = candidate.to_arrays(tensors)
    yield case.row("gradients", "loss", loss, case.array(actual_loss))
    for name, grad in grads.items():
        yield case.row("gradients", name, {name: grad}, {name: actual[name]})
    yield case.row("gradients", "state", state, case.state_arrays(actual_state))

    if case.options.activation == "tanh":
        large = initial(case.options._replace(vocab_size=LARGE_V), SIGMA, 0)
        batch = case.batch.map(lambda tokens: tokens * 12)
        yield _all_gradients(case, f"with {LARGE_V} characters", large, batch)
    else:
        # For half of the units what goes into ReLU is 0, whose slope there is 0.
        zeros = {name: array.copy() for name, array in case.arrays.items()}
        for name in zeros.keys() - {"W_e", "W_hq", "b_q"}:
            zeros[name][..., : H // 2] = 0
        yield _all_gradients(case, "slope of ReLU at 0", zeros, case.batch)


def _all_gradients(case: Case, result: str, arrays: Arrays, batch: Batch) -> Row:
    arrays = {name: array.astype(case.options.dtype) for name, array in arrays.items()}
    model, candidate = case.models(arrays)
    _, expected, _ = case.reference.scratch.gradients(model, batch, case.states)
    tensors = batch.map(case.tensor)
    _, actual, _ = case.backend.scratch.gradients(candidate, tensors, case.state())
    return case.row("gradients", result, expected, candidate.to_arrays(actual))


def all_reduce(case: Case) -> Iterator[Row]:
    """Of a single worker: its own loss and gradients. (``check/team.py`` has several.)"""
    scratch, (_, candidate) = case.backend.scratch, case.models(case.arrays)
    loss, grads, _ = scratch.gradients(candidate, *case.minibatch())
    mean, means = scratch.all_reduce(loss, grads, 1)
    yield case.compare("all_reduce", "loss, one worker", case.array(loss), case.array(mean), 0)
    expected, actual = candidate.to_arrays(grads), candidate.to_arrays(means)
    yield case.compare("all_reduce", "gradients, one worker", expected, actual, 0)


# Each piece before those that use it, so that the first one that fails is the one to correct.
Piece = Callable[[Case], Iterator[Row]]
OF_A_MODEL: tuple[Piece, ...] = (
    params,
    state,
    forward,
    gradients,
    train_minibatch,
    train_epoch,
    evaluate,
    predict,
)
PIECES: dict[str, tuple[Piece, ...]] = {
    **dict.fromkeys(VARIANTS, OF_A_MODEL),
    "scratch": (
        machine.tensor,
        params,
        state,
        encode,
        step,
        forward,
        loss,
        gradients,
        detach,
        all_reduce,
        clip,
        update,
        train_minibatch,
        train_epoch,
        evaluate,
        predict,
    ),
}
# Those that are the same in all cases of a dtype.
ONCE: dict[str, tuple[Piece, ...]] = {
    **dict.fromkeys(VARIANTS, (machine.set_eager,)),
    "scratch": (machine.multiply, machine.synchronize, machine.set_eager),
}
