"""Checks that compare each contract function in isolation with the reference.

Each function receives inputs computed by the reference, so the first failing result names the
faulty function.
"""

import dataclasses
import itertools
import math
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..contract import OPTIMIZERS, Arrays, ModelConfig, Params, State, Tensor, UpdateRule
from ..exact import GRID, MIN_VALUE, STATE_GRID
from ..parameters import split_by_layer, trained_arrays
from ..training import schedule
from . import new_optimizer
from .case import Case, FunctionCheck, collect_devices
from .results import Result, flatten

LR = 0.3  # not exactly representable in float32, so incorrect rounding is detected
GRADIENT_TOLERANCE = 1e-13  # some frameworks' gradients are less accurate in float32
GRADIENT_FACTORS = (3.0, 0.01, 2.0)  # the tiny second gradient makes v decrease, unlike in AMSGrad


def tensor(case: Case) -> Iterator[Result]:
    """Check that converting an array to a tensor and back preserves its values and dtype."""
    tokens = case.batch.X * (2 * 10**9 // case.options.vocab_size)  # large, but below 2**31
    W = case.arrays["W_hq"]
    arrays = {"numbers": W, "tokens": tokens, "transposed": W.T, "every 2nd column": W[:, ::2]}
    for name, array in arrays.items():
        converted = case.tensor(array)
        values = case.to_arrays(converted)
        yield Result(f"{name}, and back by `array`", values, array, 0, converted)
    if case.options.device != "cpu":
        on_cpu = case.backend.machine.tensor(array, "cpu")
        is_moved = collect_devices(converted) != collect_devices(on_cpu)
        yield Result("on another device than the CPU", str(is_moved), "True")


def init_params(case: Case) -> Iterator[Result]:
    """Check that the parameters equal the initial arrays and share no memory with them."""
    arrays: Arrays = {}
    for name, array in case.arrays.items():
        # Align to pages because some frameworks share memory only at addresses divisible by 64.
        pages = np.frombuffer(mmap.mmap(-1, 8 * array.size))  # float64, as in training
        order: Any = "CF"[len(arrays) % 2]  # store every other matrix in column-major order
        arrays[name] = pages.reshape(array.shape, order=order)
        arrays[name][...] = array
    model = case.model(arrays)
    yield Result("values", model.to_arrays(model.params), tolerance=0, tensors=model.params)
    for array in arrays.values():
        array[...] = math.nan
    yield Result("separate memory", model.to_arrays(model.params), case.arrays, 0)


def init_state(case: Case) -> Iterator[Result]:
    """Check that the initial state is zero."""
    yield Result("zeros", case.scratch.init_state(case.draw.batch_size, case.options), tolerance=0)


def encode(case: Case) -> Iterator[Result]:
    """Compare one-hot vectors bit for bit, including for a minibatch with only token 0."""
    for name, tokens in (("vectors", case.batch.X), ("vectors of token 0", case.batch.X * 0)):
        x = case.scratch.encode(case.tensor(tokens), case.params())
        yield Result(name, x, tolerance=0)


def cell(case: Case) -> Iterator[Result]:
    """Compare the first layer's next state, starting from a nonzero state."""
    x, (_, start) = case.first_inputs, case.minibatch()
    x = x @ case.arrays["W_e"] if case.options.embedding else x
    state = split_by_layer(start, case.options)[0]
    next_state = case.scratch.CELLS[case.options.cell](case.tensor(x), state, case.params())
    yield Result("state", next_state)


def step(case: Case) -> Iterator[Result]:
    """Compare one time step, starting from a nonzero state."""
    _, start = case.minibatch()
    logits, state = case.step(case.tensor(case.first_inputs), start, case.params(), 0)
    yield Result("logits", logits)
    yield Result("state", state)


def loss(case: Case) -> Iterator[Result]:
    """Compare the loss for the reference's logits and for logits that are large or far apart."""
    reference = case.reference
    logits, _ = reference.forward(reference.model(), case.batch, case.states)
    targets = case.tensor(case.batch.Y)
    yield Result("mean", case.scratch.loss(case.tensor(logits), targets))
    # Exponentials overflow unless the largest logit in each row is subtracted first. If logits are
    # far apart, a probability underflows to 0, whose logarithm is not finite.
    inputs = {"of large logits": logits + 1000, "of logits far apart": logits * 1e4}
    for name, values in inputs.items():
        array = values.astype(case.options.dtype)
        yield Result(name, case.scratch.loss(case.tensor(array), targets), tolerance=1e-12)


def detach(case: Case) -> Iterator[Result]:
    """Check that no gradient flows back through a detached state."""
    # If one graph contains two minibatches and the state is detached between them, the gradients
    # must match the second minibatch's own gradients when it starts from the same state.
    batch, start = case.minibatch()
    if isinstance(batch.X, np.ndarray) or not (case.draw.seed is None or case.draw.resumes):
        return  # arrays have no graph, and compiling is slow
    model, reference = case.model(), case.reference
    _, _, states = reference.gradients()
    _, expected, _ = reference._replace(states=states).gradients()

    def forward_twice(
        tokens: Tensor, state: State, params: Params, options: ModelConfig
    ) -> tuple[Tensor, State]:
        twice = dataclasses.replace(model, params=params)
        _, state = case.forward(twice, batch, state)
        return case.forward(twice, batch, case.scratch.detach(state))

    _, grads, _ = case.scratch.gradients(model.params, batch, start, model.options, forward_twice)
    yield Result("gradients", model.to_arrays(grads), expected)
    _, _, state = model.gradients(model.params, batch, start, model.options)
    _, grads, _ = model.gradients(model.params, batch, state, model.options)
    yield Result("gradients, from the returned state", model.to_arrays(grads), expected)


def clip(case: Case) -> Iterator[Result]:
    """Compare the norm and clipped gradients for several values of θ and for extreme gradients."""
    if case.draw.theta > 1:
        return  # compiling is slow, and half the draws are enough
    _, grads, _ = case.reference.gradients()
    norm = float(case.reference.scratch.clip(grads, math.inf)[1])
    inputs = {  # gradient scale, θ
        "θ half the norm": (1, norm / 2),
        "θ above 1 and the norm": (1, 2 * max(1, norm)),
        "no θ": (1, math.inf),
        "gradients of zero": (0, 1.0),
        "large gradients": (1e6 / norm, 1.0),
    }
    with np.errstate(all="ignore"):
        for name, (factor, theta) in inputs.items():
            tensors = {parameter: case.tensor(grad * factor) for parameter, grad in grads.items()}
            clipped, clipped_norm = case.scratch.clip(tensors, theta)
            yield Result(f"norm ({name})", clipped_norm)
            yield Result(f"result ({name})", clipped)
        for value in (math.inf, math.nan):
            tensors["b_q"] = case.tensor(np.full_like(grads["b_q"], value))
            clipped, clipped_norm = case.scratch.clip(tensors, 1.0)
            # Accept both infinity and NaN, because MXNet sums infinities to NaN.
            is_finite = np.isfinite(flatten(case.to_arrays((clipped_norm, clipped["b_q"])))).any()
            yield Result(f"a result of {value} is finite", str(is_finite), "False")
    # Also clip the framework's own gradients, which may be sparse (only some rows of a matrix).
    model = case.model()
    _, grads, _ = model.gradients(model.params, *case.minibatch(), model.options)
    norm = case.scratch.clip(grads, math.inf)[1]
    yield Result("norm of its own gradients", norm, tolerance=GRADIENT_TOLERANCE)


def round_to_grid(case: Case) -> Iterator[Result]:
    """Check rounding to exact mode's grids (including ties) and to float32."""
    if case.options.dtype != "float64" or case.backend.exact is None:
        return
    for grid in (GRID, STATE_GRID):
        ties = np.round(case.states[0] / grid) * grid + grid / 2
        for name, values in (("values", case.states[0]), ("ties", ties)):
            rounded = case.backend.exact.round_to_grid(case.tensor(values), grid)
            yield Result(f"{name}, to multiples of {grid:.0e}", rounded, tolerance=0)
    # The last but one rounds up to MIN_VALUE.
    limits = [1e-310, 1e-30, MIN_VALUE, MIN_VALUE / 2, MIN_VALUE * (1 - 2**-30), 0]
    values = np.concatenate([case.states[0].ravel(), limits])
    rounded = case.backend.exact.round_to_float32(case.tensor(values))
    yield Result("values", rounded, tolerance=0, function="round_to_float32")


def optimizer(case: Case) -> Iterator[Result]:
    """Compare parameters and slots after several updates (in a fixed case, for every optimizer)."""
    if case.draw.has_large_weights:
        return  # the signs of vanishing gradients, which Lion uses, are rounding errors
    names = [*OPTIMIZERS] if case.draw.seed is None else [case.draw.optimizer]
    for name, lr in itertools.product(names, (LR, 10 * LR)):
        try:
            if not case.has_reference:
                yield from new_optimizer.check(case, name, lr)
            if name in case.reference.scratch.OPTIMIZERS:
                yield from _update(case, name, lr)
        except Exception as error:
            yield Result("raised", error, "", function=name)


def _update(case: Case, name: str, lr: float) -> Iterator[Result]:
    """Yield the parameters and slots after several updates, then again after resuming.

    A resumed model must not restart its update count at 1.
    """
    _, grads, _ = case.reference.gradients()
    largest = max(np.abs(grad).max() for grad in grads.values())
    decay = 0.1 * OPTIMIZERS[name].weight_decay
    arrays, counts = case.arrays, itertools.count(1)
    for ending in ("", ", resumed"):
        model = case.model(arrays, name)
        for factor, t in zip(GRADIENT_FACTORS, counts):
            # Scale the largest element to 4 times the factor so that clamping is detected.
            scale = factor * 4 / largest
            scaled = {
                p: case.tensor((grad * scale).astype(grad.dtype)) for p, grad in grads.items()
            }
            rule = UpdateRule(lr=lr / t, optimizer=name, weight_decay=decay)
            model.params, model.slots = case.scratch.OPTIMIZERS[name](
                model.params, scaled, model.slots, schedule.correct_bias(rule, t)
            )
        arrays, tensors = trained_arrays(model), (model.params, model.slots)
        yield Result(f"learning rate {lr:g}{ending}", arrays, tensors=tensors, function=name)


def forward(case: Case) -> Iterator[Result]:
    """Compare the outputs with the reference's and with a loop over the backend's `step`."""
    model, (batch, start) = case.model(), case.minibatch()
    logits, state = case.forward(model, batch, start)
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
    """Compare the loss, each gradient and the final state."""
    model, (batch, start) = case.model(), case.minibatch()
    loss, tensors, state = model.gradients(model.params, batch, start, model.options)
    # A second call must neither add to nor replace the first call's gradients.
    swapped_batch = batch._replace(X=batch.Y, Y=batch.X)
    model.gradients(model.params, swapped_batch, start, model.options)
    grads = model.to_arrays(tensors)
    is_precise = case.options.dtype == "float64" and not case.draw.has_large_weights
    if not case.has_reference and is_precise:
        yield from finite_differences(case, grads)
    yield Result("loss", loss)
    yield Result("names", ", ".join(sorted(tensors)), ", ".join(sorted(model.params)))
    for name in case.arrays:
        yield Result(name, grads[name], tolerance=GRADIENT_TOLERANCE, tensors=tensors)
    yield Result("state", state)
    shifted = case.gradients({**case.arrays, "b_q": case.arrays["b_q"] + 1000})[1]["b_q"]
    yield Result("b_q, the same after adding 1000 to all logits", shifted, grads["b_q"], 1e-11)
    if case.options.cell == "rnn-relu" and case.options.num_hiddens < 200:
        # With these parameters, half of ReLU's inputs are 0, and its slope at 0 must be 0.
        zeros = {name: array.copy() for name, array in case.arrays.items()}
        for name in zeros.keys() - {"W_e", "W_hq", "b_q"}:
            zeros[name][..., : case.options.num_hiddens // 2] = 0
        grads = case.gradients(zeros)[1]
        yield Result("slope of ReLU at 0", grads, tolerance=GRADIENT_TOLERANCE)


def finite_differences(case: Case, grads: Arrays) -> Iterator[Result]:
    """Check each parameter's gradient along a random direction against finite differences."""
    rng, (batch, state) = np.random.RandomState(0), case.minibatch()
    distance = 1e-7 if case.options.cell == "rnn-relu" else 3e-6  # smaller because ReLU has a kink
    for name, array in case.arrays.items():
        direction = rng.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            model = case.model({**case.arrays, name: array + sign * distance * direction})
            logits, _ = case.forward(model, batch, state)
            losses.append(float(case.scratch.loss(logits, batch.Y)))
        slope = float((grads[name] * direction).sum())
        difference = (losses[0] - losses[1]) / (2 * distance)
        yield Result(f"{name}, by finite differences", slope, difference, 5e-14 / distance)


# Checks for any variant, then checks for `scratch`; each function precedes its callers.
MODEL_FUNCTIONS: tuple[FunctionCheck, ...] = (init_params, init_state, forward, gradients)
FUNCTIONS: tuple[FunctionCheck, ...] = (
    *(tensor, init_params, init_state, encode, cell, step, forward, loss, gradients, detach),
    *(clip, optimizer, round_to_grid),
)
