"""The functions of the contract compared with the reference, each alone.

Each gets the inputs that the reference would give it, so that the first row that fails names the
function that is wrong.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..contract import OPTIMIZERS, Arrays, Batch, Params, State, Tensor, Update
from ..exact import FINE_GRID, GRID, STATE_GRID
from ..parameters import initial, trained_arrays
from .inputs import LR, SIGMA, B, Case, H, Piece, T, V
from .results import ROUNDING, Computed, Row, fact

MANY_UNITS = 512  # hidden units: some frameworks share the memory of large arrays only
# Multiples of 0.02: their products with many multiples of the grid are midpoints of two others.
LEARNING_RATES = [n / 50 for n in range(1, 200, 2)]
LARGE_V = 300  # a vocabulary for which an implementation may choose other operations


# The functions of the contract, one by one.


def params(case: Case) -> Iterator[Computed | Row]:
    """The parameters are equal to the arrays that they start at, and share no memory with them."""
    model = case.model()
    yield Computed("values", model.to_arrays(model.params), allowed=0, tensors=model.params)
    many = case.options._replace(num_hiddens=MANY_UNITS)
    arrays = {
        parameter: _aligned(np.ones(shape, case.options.dtype))
        for parameter, shape in many.shapes().items()
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
    """One-hot vectors, to the last bit; the parameters stay."""
    params = case.params()
    x = case.scratch.encode(case.tensor(case.batch.X), params)
    yield Computed("vectors", x, allowed=0)
    yield Computed("parameters afterwards", params, case.arrays, 0)


def cell(case: Case) -> Iterator[Computed | Row]:
    """The cell by itself: the next state from a state that is not zero."""
    if case.options.deep:
        return  # its cells are the same, and `deep_step` calls them
    name, params = case.options.cell, case.params()
    x = case.tensor(case.reference.scratch.encode(case.batch.X[:, 0], case.arrays))  # (B, V)
    yield Computed("state", case.scratch.CELLS[name](x, case.state(), params))


def step(case: Case) -> Iterator[Computed | Row]:
    """One time step, from a state that is not zero."""
    x = case.tensor(case.reference.scratch.encode(case.batch.X[:, 0], case.arrays))  # (B, V)
    logits, state = case.step(x, case.state(), case.params(), 0)
    yield Computed("logits", logits)
    yield Computed("state", state)


def loss(case: Case) -> Iterator[Computed | Row]:
    """The loss of the reference's logits, and of many large ones for a large vocabulary."""
    logits, _ = case.reference.model().forward(case.batch.X, case.states)
    yield Computed("mean", case.scratch.loss(case.tensor(logits), case.tensor(case.batch.Y)))
    rng, (rows, steps) = np.random.RandomState(0), (77, 13)
    # Without the largest of a row subtracted first, the exponentials of these are infinite.
    large = rng.normal(1000, size=(rows * steps, LARGE_V)).astype(case.options.dtype)
    targets = rng.randint(0, LARGE_V, (rows, steps), "int64")
    mean = case.scratch.loss(case.tensor(large), case.tensor(targets))
    yield Computed(f"with {LARGE_V} characters", mean)
    square, targets = large[: T * T], case.batch.Y[:T]
    mean = case.scratch.loss(case.tensor(square), case.tensor(targets))
    yield Computed("of as many rows as steps", mean)


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

    def both(inputs: Any, state: State, **params: Params) -> tuple[Tensor, State]:
        _, state = model.forward(inputs, state, **params)
        return model.forward(inputs, case.scratch.detach(state), **params)

    twice = dataclasses.replace(model, forward=both, backward=None)
    _, grads, _ = case.scratch.gradients(twice, batch, start)
    yield Computed("gradients", model.to_arrays(grads), expected)
    _, _, state = case.scratch.gradients(model, batch, start)
    _, grads, _ = case.scratch.gradients(model, batch, state)
    yield Computed("gradients, from the state that they returned", model.to_arrays(grads), expected)


def clip(case: Case) -> Iterator[Computed | Row]:
    """Norm and result, where gradients are clipped, where they need not be, and without a θ."""
    _, grads, _ = case.reference.gradients()
    norm = float(case.reference.scratch.clip(grads, math.inf)[1])
    thetas = {"θ half the norm": norm / 2, "θ twice the norm": norm * 2, "no θ": math.inf}
    thetas["θ above 1 and the norm"] = 2 * max(1, norm)
    for name, theta in thetas.items():
        tensors = {parameter: case.tensor(grad.copy()) for parameter, grad in grads.items()}
        clipped, own_norm = case.scratch.clip(tensors, theta)
        yield Computed(f"norm, {name}", own_norm)
        yield Computed(f"result, {name}", clipped)
    zeros = {parameter: case.tensor(grad * 0) for parameter, grad in grads.items()}
    with np.errstate(all="ignore"):
        yield Computed("result, gradients of zero", case.scratch.clip(zeros, 1.0)[0])
    # A framework may have its own form of gradients, rows of a matrix for instance.
    _, own, _ = case.scratch.gradients(case.model(), *case.minibatch())
    yield Computed("norm, its own gradients", case.scratch.clip(own, math.inf)[1])


def rounded(case: Case) -> Iterator[Computed | Row]:
    """To the grids of exact mode, midpoints of two multiples included, and without a grid."""
    values = case.states[0].astype(case.options.dtype)
    yield Computed("without a grid", case.scratch.rounded(case.tensor(values), None), values, 0)
    for grid in (GRID, STATE_GRID) if case.options.dtype == "float64" else ():
        ties = np.round(values / grid) * grid + grid / 2
        for name, each in (("values", values), ("ties", ties)):
            label = f"{name}, to multiples of {grid:.0e}"
            yield Computed(label, case.scratch.rounded(case.tensor(each), grid), allowed=0)


def of_optimizer(name: str) -> Piece:
    """The piece that compares an optimizer."""
    optimizer = OPTIMIZERS[name]

    def piece(case: Case) -> Iterator[Computed | Row]:
        """Some steps, with weight decay if it has it, and on the grids of exact mode."""
        _, grads, _ = case.reference.gradients()
        fine = FINE_GRID if optimizer.slots else GRID
        for lr in (LR, 3.0):
            for grid in (None, fine) if case.options.dtype == "float64" else (None,):
                how = Update(grid=grid, optimizer=name, grad_grid=grid)
                how = how._replace(weight_decay=0.1) if optimizer.decays else how
                # A model of the backend, because some tensors cannot be updated in place.
                model = case.model(optimizer=name)
                for number in range(1, 4):
                    tensors = {p: case.tensor(grad * number) for p, grad in grads.items()}
                    rates = case.rates(lr / number, name, number)
                    case.scratch.OPTIMIZERS[name](model, tensors, how, rates)
                label = f"learning rate {lr:g}" + (", on the grid" if grid else "")
                allowed, own = 0 if grid else ROUNDING, (model.params, model.slots)
                yield Computed(label, trained_arrays(model), allowed=allowed, tensors=own)
        if case.options.dtype == "float64":
            # A framework that reads a number as text may have it one bit off, and a step that is
            # the middle of two multiples of the grid is then rounded to the other one.
            model = case.model(optimizer=name)
            # With no sums in it, and steps that are no larger than the gradients.
            how = Update(grid=fine, optimizer=name, grad_grid=fine, beta1=0.0, epsilon=1.0)
            tensors = {p: case.tensor(grad) for p, grad in grads.items()}
            for number, lr in enumerate(LEARNING_RATES, 1):
                rates = case.rates(lr, name, number)
                case.scratch.OPTIMIZERS[name](model, tensors, how, rates)
            label = f"{len(LEARNING_RATES)} learning rates, on the grid"
            yield Computed(label, trained_arrays(model), allowed=0)

    piece.__name__ = name
    return piece


# The functions of the model, in all variants.


def forward(case: Case) -> Iterator[Computed | Row]:
    """All time steps at once equal a loop over `step`, the reference's and the backend's own."""
    model, (batch, start) = case.model(), case.minibatch()
    logits, state = model.forward(batch.inputs, start)
    yield Computed("logits", logits)
    yield Computed("state", state)
    params, looped, looped_state = case.params(), [], case.state()
    for t in range(T):
        x = case.scratch.encode(case.tensor(case.batch.X[:, t]), params)
        each, looped_state = case.step(x, looped_state, params, t)
        looped.append(case.as_arrays(each))
    yield Computed("logits of a loop over its own step", logits, np.concatenate(looped))
    yield Computed("state of a loop over its own step", state, looped_state)
    square = case.of_rows(slice(T))
    batch, start = square.minibatch()
    yield Computed("logits of as many rows as steps", model.forward(batch.inputs, start)[0])
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
        yield Computed(name, {name: grads[name]}, tensors=own)
    yield Computed("state", state)
    if case.large:
        return  # the rest is the same at any size
    if case.options.cell != "rnn-relu":
        token = case.of_rows(slice(9, 10))  # whose gradients are large, also as they are no means
        X, Y, masks, _ = token.batch
        one = Batch(X[:, :1], Y[:, :1], None if masks is None else masks[:1])
        grads = token.gradients(batch=one)[1]
        yield Computed("of one token", grads, allowed=10 * ROUNDING)
        large = initial(case.options._replace(vocab_size=LARGE_V), SIGMA, 0)
        X, Y = (tokens * (LARGE_V // V) for tokens in case.batch[:2])
        # Layers without dropout have gradients of their own.
        _, grads, _ = case.gradients(large, case.batch._replace(X=X, Y=Y, masks=None))
        yield Computed(f"with {LARGE_V} characters", grads)
        if not case.options.deep:
            loss, grads, _ = case.of_rows(slice(T)).gradients()
            yield Computed("of as many rows as steps", (loss, *grads.values()))
    else:
        # For half of the units what goes into ReLU is 0, whose slope there is 0.
        zeros = {name: array.copy() for name, array in case.arrays.items()}
        for name in zeros.keys() - {"W_e", "W_hq", "b_q"}:
            zeros[name][..., : H // 2] = 0
        yield Computed("slope of ReLU at 0", case.gradients(zeros)[1])


def finite_differences(case: Case, grads: Arrays) -> Iterator[Computed]:
    """Of each parameter: the slope of the loss in some direction, and the central difference."""
    rng = np.random.RandomState(0)
    batch, state = case.minibatch()
    for name, array in case.arrays.items():
        direction = rng.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        losses = []
        for distance in (1e-5, -1e-5):
            model = case.model({**case.arrays, name: array + distance * direction})
            logits, _ = model.forward(batch.inputs, state)
            losses.append(float(case.scratch.loss(logits, batch.Y)))
        slope, difference = float((grads[name] * direction).sum()), (losses[0] - losses[1]) / 2e-5
        yield Computed(f"{name}, by finite differences", slope, difference, 1e-9)


FUNCTIONS = (params, state, encode, cell, step, forward, loss, gradients, detach, clip, rounded)
OF_OPTIMIZERS = tuple(map(of_optimizer, OPTIMIZERS))
