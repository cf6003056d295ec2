"""One backend held against the NumPy reference, piece by piece.

Each piece is given what the reference would give it, so that the first row that is off names the
piece that is wrong.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..contract import Backend, Options, RNNScratchError, State
from ..exact import GRID
from .cases import ROUNDING, B, Case, H, N, Row, T, make_case, tensors_as_arrays
from .whole import LR, evaluate, predict, train_epoch

# By dtype: activation, and numbers in an embedding (0: one-hot).
CASES = {"float64": [("tanh", 0), ("relu", 0), ("tanh", N)], "float32": [("tanh", 0), ("relu", 0)]}


def hold(
    backend: Backend,
    model: str = "scratch",
    device: str = "cpu",
    only: tuple[str, int] | None = None,
) -> Iterator[Row]:
    """Compare a backend's model with the reference in every case; the rows come as they are found.

    A concise model is compared as a whole, as it has no pieces of its own. A piece that raises is
    a row that is off. The short form is for `only` one activation and size of embedding (0:
    one-hot), and leaves out all but ten of the updates.
    """
    for dtype in ("float64", "float32"):
        if device not in backend.devices(dtype):
            yield Row("device", device, dtype, 0, "", 0, f"it cannot compute in {dtype}")
            continue
        for activation, embedding in CASES[dtype] if only is None else [only]:
            options = Options(activation, dtype, device)
            case = make_case(backend, model, options, only is not None, embedding)
            try:
                case.models(case.arrays)
            except RNNScratchError as error:
                if model == "concise":  # not offered, and it says so
                    yield Row("concise", "", case.name, 0, "", 0, str(error).splitlines()[0])
                    continue
            except Exception:
                pass  # what is wrong shows below, in the piece that it is wrong in
            pieces = CONCISE if model == "concise" else SCRATCH
            for piece in pieces:
                try:
                    yield from piece(case)
                except Exception as error:
                    words = (str(error).strip().splitlines() or [""])[0]
                    name = piece.__name__
                    yield Row(
                        name, "raised", case.name, None, f"{type(error).__name__}: {words}", 0
                    )


# The pieces of the contract, each alone.


def params(case: Case) -> Iterator[Row]:
    """The parameters are the arrays they are made of, and share no memory with them."""
    given = {name: array.copy() for name, array in case.arrays.items()}
    _, candidate = case.models(given)
    for array in given.values():
        array[...] = math.nan  # shows if memory is shared
    yield case.row("params", "values", case.arrays, candidate.to_arrays(candidate.params), 0)


def state(case: Case) -> Iterator[Row]:
    """The first state is zeros."""
    found = tensors_as_arrays(case, case.backend.state(B, H, case.theirs))
    yield case.row("state", "zeros", case.reference.state(B, H, case.ours), found, 0)


def encode(case: Case) -> Iterator[Row]:
    """One-hot vectors, or rows of the embedding, to the last bit."""
    found = case.backend.array(case.backend.encode(case.tensor(case.X), case.params()))
    yield case.row("encode", "vectors", case.reference.encode(case.X, case.arrays), found, 0)


def step(case: Case) -> Iterator[Row]:
    """One time step, from a state that is not zero."""
    x = case.reference.encode(case.X[:, 0], case.arrays)  # (B, V)
    logits, state = case.reference.step(x, (case.h,), case.arrays, case.ours)
    found, found_state = case.backend.step(
        case.tensor(x), (case.tensor(case.h),), case.params(), case.theirs
    )
    yield case.row("step", "logits", logits, case.backend.array(found))
    yield case.row("step", "state", state, tensors_as_arrays(case, found_state))


def loss(case: Case) -> Iterator[Row]:
    """The loss of the reference's logits."""
    logits, _ = case.reference.forward(case.X, (case.h,), case.arrays, case.ours)
    found = case.backend.loss(case.tensor(logits), case.tensor(case.Y))
    expected = case.reference.loss(logits, case.Y)
    yield case.row("loss", "mean", expected, case.backend.array(found))


def detach(case: Case) -> Iterator[Row]:
    """No gradient flows back through a detached state."""
    # A graph over two minibatches, the state detached between them: the second's gradients must
    # be those that the reference finds for it alone, from the same state.
    model, candidate = case.models(case.arrays)
    if isinstance(case.tensor(case.h), np.ndarray):
        return  # an array has no history
    _, _, state = case.reference.gradients(model, case.X, case.Y, (case.h,))
    _, expected, _ = case.reference.gradients(model, case.X, case.Y, state)

    def both(tokens: Any, state: State, params: Any, options: Options) -> Any:
        _, state = candidate.forward(tokens, state, params, options)
        return candidate.forward(tokens, case.backend.detach(state), params, options)

    _, found, _ = case.backend.gradients(
        candidate._replace(forward=both, backward=None),
        case.tensor(case.X), case.tensor(case.Y), (case.tensor(case.h),),
    )  # fmt: skip
    yield case.row("detach", "gradients", expected, candidate.to_arrays(found))


def clip(case: Case) -> Iterator[Row]:
    """Norm and result, where the clip acts, where it does not, and where there is none."""
    model, _ = case.models(case.arrays)
    _, grads, _ = case.reference.gradients(model, case.X, case.Y, (case.h,))
    _, norm = case.reference.clip(grads, None)
    for theta, name in (
        (norm / 2, "θ half the norm"),
        (norm * 2, "θ twice the norm"),
        (None, "no θ"),
    ):
        theta = None if theta is None else float(theta)
        expected, expected_norm = case.reference.clip(grads, theta)
        given = {name: case.tensor(grad.copy()) for name, grad in grads.items()}
        found, found_norm = case.backend.clip(given, theta)
        yield case.row("clip", f"norm, {name}", expected_norm, case.backend.array(found_norm))
        arrays = {name: case.backend.array(grad) for name, grad in found.items()}
        yield case.row("clip", f"result, {name}", expected, arrays)
    # A framework may give gradients in a form of its own, rows of an embedding for instance.
    _, candidate = case.models(case.arrays)
    _, own, _ = case.backend.gradients(
        candidate, case.tensor(case.X), case.tensor(case.Y), (case.tensor(case.h),)
    )
    _, found_norm = case.backend.clip(own, None)
    yield case.row("clip", "norm, its own gradients", norm, case.backend.array(found_norm))


def update(case: Case) -> Iterator[Row]:
    """A plain step, and steps on the grid of exact mode, those in the middle between included."""
    model, _ = case.models(case.arrays)
    _, grads, _ = case.reference.gradients(model, case.X, case.Y, (case.h,))
    ties = {name: np.round(grad / GRID) * GRID + GRID / 2 for name, grad in grads.items()}
    trials: list[Any] = [("plain", grads, LR, None, ROUNDING)]
    if case.ours.dtype == "float64":  # the only one with exact mode
        trials += [("on the grid", grads, LR, GRID, 0), ("ties on the grid", ties, 1.0, GRID, 0)]
    for name, given, lr, grid, allowed in trials:
        # A model of the candidate, because some tensors of a framework cannot be updated in place.
        expected, candidate = case.models(case.arrays)
        case.reference.update(expected.params, given, lr, grid)
        tensors = {name: case.tensor(grad) for name, grad in given.items()}
        case.backend.update(candidate.params, tensors, lr, grid)
        found = candidate.to_arrays(candidate.params)
        yield case.row("update", name, expected.params, found, allowed)


# What a model does as a whole, scratch or concise.


def forward(case: Case) -> Iterator[Row]:
    """All time steps at once equal the reference's loop over `step`."""
    _, candidate = case.models(case.arrays)
    state: State = (case.h,)
    steps = []
    for t in range(T):  # the loop that every forward must equal
        x = case.reference.encode(case.X[:, t], case.arrays)
        logits, state = case.reference.step(x, state, case.arrays, case.ours)
        steps.append(logits)
    found, found_state = candidate.forward(
        case.tensor(case.X), (case.tensor(case.h),), candidate.params, candidate.options
    )
    yield case.row("forward", "logits", np.concatenate(steps), case.backend.array(found))
    yield case.row("forward", "state", state, tensors_as_arrays(case, found_state))


def gradients(case: Case) -> Iterator[Row]:
    """Loss, each gradient, and the state carried on."""
    model, candidate = case.models(case.arrays)
    loss, grads, state = case.reference.gradients(model, case.X, case.Y, (case.h,))
    found_loss, tensors, found_state = case.backend.gradients(
        candidate, case.tensor(case.X), case.tensor(case.Y), (case.tensor(case.h),)
    )
    found = candidate.to_arrays(tensors)
    yield case.row("gradients", "loss", loss, case.backend.array(found_loss))
    for name, grad in grads.items():
        yield case.row("gradients", name, {name: grad}, {name: found[name]})
    yield case.row("gradients", "state", state, tensors_as_arrays(case, found_state))


# In the order in which one is made of another, so that the first that is off is the one to mend.
Piece = Callable[[Case], Iterator[Row]]
SCRATCH: tuple[Piece, ...] = (
    params, state, encode, step, forward, loss, gradients, detach, clip, update,
    train_epoch, evaluate, predict,
)  # fmt: skip
CONCISE: tuple[Piece, ...] = (forward, gradients, train_epoch, evaluate, predict)
