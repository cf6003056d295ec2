"""Exact mode: optimizers that round, so that all frameworks agree bit for bit.

`rnn_scratch.exact` explains the grids. Exact mode wraps the plain optimizers, which don't know it.
"""

import numpy as np

from rnn_scratch.exact import FINE_GRID, GRID, SMALLEST

from .deep import OPTIMIZERS


def round_to_grid(values, grid):
    """Round to the nearest multiple of the grid, ties to even."""
    return np.round(values / grid) * grid


def round_to_float32(values):
    """Round to the nearest float32 number, as float64; replace tiny numbers by zero."""
    nearest = values.astype("float32").astype("float64")
    return np.where(np.abs(nearest) < SMALLEST, 0, nearest)


def make_exact(optimizer):
    """Return the optimizer with rounded gradients, parameters and slots."""

    def exact_optimizer(model, grads, update):
        grid = FINE_GRID if model.slots else GRID
        optimizer(model, {name: round_to_grid(grad, grid) for name, grad in grads.items()}, update)
        for param in model.params.values():
            param[...] = round_to_grid(param, grid)
        for slot in model.slots.values():
            slot |= {name: round_to_float32(values) for name, values in slot.items()}

    return exact_optimizer


OPTIMIZERS |= {f"exact {name}": make_exact(optimizer) for name, optimizer in OPTIMIZERS.items()}
