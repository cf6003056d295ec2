"""Properties of every optimizer, for optimizers that the reference does not have."""

from collections.abc import Iterator

import numpy as np

from ..contract import OPTIMIZERS, Arrays, UpdateRule
from ..parameters import trained_arrays
from ..training import schedule
from .case import Case
from .results import Result

DECAY, NUM_UPDATES = 0.25, 3


def check(case: Case, name: str, lr: float) -> Iterator[Result]:
    """Check the learning rate, weight decay, and that all of an optimizer's state is in its slots.

    Also check that the parameters and slots keep their names and shapes.
    """
    rng = np.random.RandomState(0)
    shapes = case.options.shapes().items()
    grads = [{n: rng.normal(size=shape) for n, shape in shapes} for _ in range(NUM_UPDATES)]

    def update(arrays: Arrays, updates: range, lr: float, decay: float = 0.0) -> Arrays:
        model = case.model(arrays, name)
        for t in updates:
            tensors = {n: case.tensor(g.astype(case.options.dtype)) for n, g in grads[t].items()}
            rule = UpdateRule(lr=lr, optimizer=name, weight_decay=decay)
            model.params, model.slots = case.scratch.OPTIMIZERS[name](
                model.params, tensors, model.slots, schedule.correct_bias(rule, t + 1)
            )
        return trained_arrays(model)

    start, first = case.arrays, update(case.arrays, range(1), lr)
    still = update(start, range(1), 0.0)
    expected = {n: start.get(n, value) for n, value in first.items()}
    yield Result("learning rate 0: the same parameters", still, expected, function=name)
    if OPTIMIZERS[name].weight_decay:
        decayed = update(start, range(1), lr, DECAY)
        expected = {n: v - lr * DECAY * start.get(n, 0.0) for n, v in first.items()}
        yield Result("weight decay: lr * weight_decay * p less", decayed, expected, function=name)
    resumed = update(update(start, range(2), lr), range(2, NUM_UPDATES), lr)
    whole = update(start, range(NUM_UPDATES), lr)
    yield Result("resumed after two updates", resumed, whole, 0, function=name)
