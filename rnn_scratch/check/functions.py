"""Checks that compare each function of the contract with the reference, in isolation.

Each function gets the inputs that the reference computes, so that the first result that fails names
the function that is wrong.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import exact
from ..contract import OPTIMIZERS, Arrays, State, Tensor, Update
from ..exact import GRID, STATE_GRID
from ..parameters import trained_arrays
from ..training import schedule
from .draws import Case, FunctionCheck, devices_of
from .results import ROUNDING, Result

MANY_UNITS = 512  # hidden units: some frameworks share the memory of large arrays only
LR = 0.3  # float32 cannot represent 0.3, so wrong rounding shows
# Multiples of 0.02: many of their products with grid multiples are midpoints of grid multiples.
MIDPOINT_RATES = [n / 50 for n in range(1, 200, 4)]
GRADIENT_FACTORS = (3.0, 0.01, 2.0)  # the small second gradient makes v shrink, unlike in AMSGrad


def tensor(case: Case) -> Iterator[Result]:
    """Check that conversion to a tensor and back keeps values and dtype."""
    tokens = case.batch.X * 10**7  # up to 2e9, which 32 bits hold
    for name, array in (("numbers", case.arrays["W_hq"]), ("tokens", tokens)):
        own = case.tensor(array)
        yield Result(f"{name}, and back by `array`", case.to_arrays(own), array, 0, own)
    if case.options.device != "cpu":
        on_cpu = case.backend.machine.tensor(array, "cpu")
        name = "cpu" if devices_of(own) == devices_of(on_cpu) else case.options.device
        yield Result("device", name, case.options.device)


def params(case: Case) -> Iterator[Result]:
    """Compare the parameters with the arrays."""
    model = case.model()
    yield Result("values", model.to_arrays(model.params), tolerance=0, tensors=model.params)


def separate_memory(case: Case) -> Iterator[Result]:
    """Check that parameters share no memory with the arrays."""
    many = case.options._replace(num_hiddens=MANY_UNITS)
    arrays = {
        parameter: _aligned(np.ones(shape, case.options.dtype))
        for parameter, shape in many.shapes().items()
    }
    expected = {parameter: array.copy() for parameter, array in arrays.items()}
    model = case.model(arrays)
    for array in arrays.values():
        array[...] = math.nan  # shows in the parameters if memory is shared
    values = model.to_arrays(model.params)
    yield Result("separate memory", values, expected, 0, function="params")


def _aligned(array: np.ndarray) -> np.ndarray:
    # Copy to an address that is a multiple of 64, which some frameworks need to share memory.
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    aligned[...] = array
    return aligned


def state(case: Case) -> Iterator[Result]:
    """Compare the initial state with zeros."""
    yield Result("zeros", case.scratch.state(case.draw.batch_size, case.options), tolerance=0)
    yield Result("of the model", case.model().state(case.draw.batch_size), tolerance=0)


def encode(case: Case) -> Iterator[Result]:
    """Compare one-hot vectors bit for bit; the parameters must not change."""
    params = case.params()
    x = case.scratch.encode(case.tensor(case.batch.X), params)
    yield Result("vectors", x, tolerance=0)
    yield Result("parameters afterwards", params, case.arrays, 0)


def _first_inputs(case: Case) -> Tensor:
    # The one-hot vectors of the first time step (B, V), from the reference.
    return case.tensor(case.reference.scratch.encode(case.batch.X[:, 0], case.arrays))


def cell(case: Case) -> Iterator[Result]:
    """Compare the next state of the cell, from a state that is not zero."""
    if case.options.deep:
        return  # deep models have the same cells, which `deep_step` calls
    name, params, (_, start) = case.options.cell, case.params(), case.minibatch()
    yield Result("state", case.scratch.CELLS[name](_first_inputs(case), start, params))


def step(case: Case) -> Iterator[Result]:
    """Compare one time step, from a state that is not zero."""
    _, start = case.minibatch()
    logits, state = case.step(_first_inputs(case), start, case.params(), 0)
    yield Result("logits", logits)
    yield Result("state", state)


def loss(case: Case) -> Iterator[Result]:
    """Compare the loss of the reference's logits, moderate and large ones."""
    logits, _ = case.reference.model().forward(case.batch.X, case.states)
    targets = case.tensor(case.batch.Y)
    yield Result("mean", case.scratch.loss(case.tensor(logits), targets))
    # Unless the largest of a row is subtracted first, the exponentials of these are infinite.
    large = (logits + 1000).astype(case.options.dtype)
    yield Result("of large logits", case.scratch.loss(case.tensor(large), targets), tolerance=1e-12)


def detach(case: Case) -> Iterator[Result]:
    """Check that no gradient flows back through a detached state."""
    # In a graph over two minibatches with the state detached between them, the gradients must be
    # the second's alone, from the same state.
    batch, start = case.minibatch()
    if isinstance(batch.X, np.ndarray) or case.draw.is_steep:
        return  # an array has no graph
    model, reference = case.model(), case.reference
    _, _, after = reference.gradients()
    _, expected, _ = reference._replace(states=after).gradients()

    def forward_twice(inputs: Any, state: State, **named: Any) -> tuple[Tensor, State]:
        _, state = model.forward(inputs, state, **named)
        return model.forward(inputs, case.scratch.detach(state), **named)

    twice = dataclasses.replace(model, forward=forward_twice, backward=None)
    _, grads, _ = case.scratch.gradients(twice, batch, start)
    yield Result("gradients", model.to_arrays(grads), expected)
    _, _, state = case.scratch.gradients(model, batch, start)
    _, grads, _ = case.scratch.gradients(model, batch, state)
    yield Result("gradients, from the state that they returned", model.to_arrays(grads), expected)


def clip(case: Case) -> Iterator[Result]:
    """Compare norm and gradients for θ below and above the norm, and without a θ."""
    _, grads, _ = case.reference.gradients()
    norm = float(case.reference.scratch.clip(grads, math.inf)[1])
    thetas = {"θ half the norm": norm / 2, "θ above 1 and the norm": 2 * max(1, norm)}
    for name, theta in {**thetas, "no θ": math.inf}.items():
        tensors = {parameter: case.tensor(grad.copy()) for parameter, grad in grads.items()}
        clipped, own_norm = case.scratch.clip(tensors, theta)
        yield Result(f"norm, {name}", own_norm)
        yield Result(f"result, {name}", clipped)
    zeros = {parameter: case.tensor(grad * 0) for parameter, grad in grads.items()}
    with np.errstate(all="ignore"):
        yield Result("result, gradients of zero", case.scratch.clip(zeros, 1.0)[0])
    # A framework may represent gradients differently, for instance as rows of a matrix.
    _, own, _ = case.scratch.gradients(case.model(), *case.minibatch())
    yield Result("norm, its own gradients", case.scratch.clip(own, math.inf)[1])


def round_to_grid(case: Case) -> Iterator[Result]:
    """Compare rounding to the grids of exact mode, ties included."""
    for grid in (GRID, STATE_GRID) if case.options.dtype == "float64" else ():
        ties = np.round(case.states[0] / grid) * grid + grid / 2
        for name, values in (("values", case.states[0]), ("ties", ties)):
            rounded = case.backend.exact.round_to_grid(case.tensor(values), grid)
            yield Result(f"{name}, to multiples of {grid:.0e}", rounded, tolerance=0)


def round_to_float32(case: Case) -> Iterator[Result]:
    """Compare rounding to float32, tiny numbers included."""
    if case.options.dtype == "float64":
        values = np.concatenate([case.states[0].ravel(), [1e-310, 1e-30, 2.0**-100, 2.0**-101, 0]])
        rounded = case.backend.exact.round_to_float32(case.tensor(values))
        yield Result("values", rounded, tolerance=0)


def make_exact(case: Case) -> Iterator[Result]:
    """Compare updates of the exact optimizer bit for bit."""
    if not case.exactly:
        return
    name = case.draw.optimizer
    optimizer = case.backend.exact.make_exact(case.scratch.OPTIMIZERS[name])
    yield _updated("parameters and slots", case, optimizer, name, exact.update)
    if case.options.num_layers > 1:
        return  # further results do not depend on the parameters
    # If a framework parses a number as text, it may be one bit off. A step that is a midpoint of
    # two multiples of the grid is then rounded in the wrong direction.
    model, rule = case.model(optimizer=name), Update(optimizer=name, beta1=0.0, epsilon=1.0)
    tensors = {p: case.tensor(grad) for p, grad in _gradients(case).items()}
    for number, lr in enumerate(MIDPOINT_RATES, 1):
        update = schedule.corrected(exact.update(rule._replace(lr=lr)), number)
        optimizer(model, tensors, update)
    yield Result("steps at midpoints", trained_arrays(model), tolerance=0)


def optimizer_check(name: str) -> FunctionCheck:
    """Return the check of an optimizer."""

    def check(case: Case) -> Iterator[Result]:
        """Compare parameters and slots after some updates."""
        if case.draw.seed is None or case.draw.optimizer == name:
            for factor in (1, 10):
                optimizer = case.scratch.OPTIMIZERS[name]
                output = f"learning rate {factor * LR:g}"
                yield _updated(output, case, optimizer, name, lambda rule: rule, factor * LR)

    check.__name__ = name
    return check


def _updated(
    output: str, case: Case, optimizer: Callable, name: str, adapt: Callable, lr: float = LR
) -> Result:
    # Parameters and slots after some updates, with rules that are adapted to the optimizer.
    grads, decay = _gradients(case), 0.1 * OPTIMIZERS[name].decays
    model = case.model(optimizer=name)
    for number, factor in enumerate(GRADIENT_FACTORS, 1):
        tensors = {p: case.tensor(grad * factor) for p, grad in grads.items()}
        rule = Update(lr=lr / number, optimizer=name, weight_decay=decay)
        optimizer(model, tensors, schedule.corrected(adapt(rule), number))
    own, tolerance = (model.params, model.slots), 0 if adapt is exact.update else ROUNDING
    return Result(output, trained_arrays(model), tolerance=tolerance, tensors=own)


def _gradients(case: Case) -> Arrays:
    # The reference's gradients, scaled to a largest element of 4, so that a clamp shows.
    _, grads, _ = case.reference.gradients()
    largest = max(np.abs(grad).max() for grad in grads.values())
    return {name: (grad * (4 / largest)).astype(grad.dtype) for name, grad in grads.items()}


def forward(case: Case) -> Iterator[Result]:
    """Compare all time steps with the reference, and with a loop over the backend's `step`."""
    model, (batch, start) = case.model(), case.minibatch()
    logits, state = model.forward(batch.X, start, **batch.extras)
    yield Result("logits", logits)
    yield Result("state", state)
    params, looped, looped_state = case.params(), [], start
    for t in range(case.draw.num_steps):
        x = case.scratch.encode(case.tensor(case.batch.X[:, t]), params)
        step_logits, looped_state = case.step(x, looped_state, params, t)
        looped.append(case.to_arrays(step_logits))
    yield Result("logits of a loop over its own step", logits, np.concatenate(looped))
    yield Result("state of a loop over its own step", state, looped_state)
    yield Result("parameters afterwards", model.to_arrays(model.params), case.arrays, 0)


def gradients(case: Case) -> Iterator[Result]:
    """Compare the loss, each gradient, and the state for the next minibatch."""
    model, (batch, start) = case.model(), case.minibatch()
    loss, own, state = case.scratch.gradients(model, batch, start)
    other = batch._replace(X=batch.Y, Y=batch.X)
    case.scratch.gradients(model, other, start)  # must neither add to the first nor replace it
    grads = model.to_arrays(own)
    if case.is_reference and case.options.dtype == "float64" and not case.draw.is_steep:
        yield from finite_differences(case, grads)
    yield Result("loss", loss)
    yield Result("order", ", ".join(own), ", ".join(model.params))
    for name in case.arrays:
        yield Result(name, {name: grads[name]}, tensors=own)
    yield Result("state", state)
    if case.options.cell == "rnn-relu" and case.options.num_hiddens < 200:
        # With these parameters, half of the ReLU inputs are 0. The slope at 0 is 0.
        zeros = {name: array.copy() for name, array in case.arrays.items()}
        for name in zeros.keys() - {"W_e", "W_hq", "b_q"}:
            zeros[name][..., : case.options.num_hiddens // 2] = 0
        yield Result("slope of ReLU at 0", case.gradients(zeros)[1])


def finite_differences(case: Case, grads: Arrays) -> Iterator[Result]:
    """Compare a directional derivative of each parameter with a central difference."""
    rng = np.random.RandomState(0)
    batch, state = case.minibatch()
    distance = 1e-7 if case.options.cell == "rnn-relu" else 1e-5  # ReLU has kinks
    for name, array in case.arrays.items():
        direction = rng.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            model = case.model({**case.arrays, name: array + sign * distance * direction})
            logits, _ = model.forward(batch.X, state, **batch.extras)
            losses.append(float(case.scratch.loss(logits, batch.Y)))
        slope = float((grads[name] * direction).sum())
        difference = (losses[0] - losses[1]) / (2 * distance)
        yield Result(f"{name}, by finite differences", slope, difference, 1e-14 / distance)


FUNCTIONS: tuple[FunctionCheck, ...] = (
    tensor,
    params,
    separate_memory,
    state,
    encode,
    cell,
    step,
    forward,
    loss,
    gradients,
    detach,
    clip,
    *map(optimizer_check, OPTIMIZERS),
    round_to_grid,
    round_to_float32,
    make_exact,
)
# Checks of the other variants of a model.
MODEL_FUNCTIONS = (params, separate_memory, state, forward, gradients)
