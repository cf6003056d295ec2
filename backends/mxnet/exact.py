"""Exact mode: rounding functions that make all frameworks agree bit for bit.

`rnn_scratch.exact` explains the grids, and `rnn_scratch.steps` applies these functions.
"""

from mxnet import np

from rnn_scratch.exact import FINE_GRID, GRID, MIN_VALUE

from .machine import update_as_arrays


def round_to_grid(values, grid):
    """Round values to the nearest multiple of `grid`, with ties to even."""
    return np.round(values / grid) * grid


def round_to_float32(values):
    """Round float64 values to the nearest float32 values; flush magnitudes below MIN_VALUE to 0."""
    nearest = values.astype("float32").astype("float64")
    # Use an array, because MXNet passes Python numbers as text, which can change the last bit.
    min_value = np.array(MIN_VALUE, dtype="float64", ctx=nearest.ctx)
    return np.where(np.abs(nearest) < min_value, np.zeros_like(nearest), nearest)


def make_exact(optimizer):
    """Wrap an optimizer so that it rounds gradients, parameters and slots."""

    def exact_optimizer(params, grads, slots, update):
        grid = FINE_GRID if slots else GRID
        grads = {name: round_to_grid(grad, grid) for name, grad in grads.items()}
        update = update_as_arrays(update, params["b_q"])
        params, slots = optimizer(params, grads, slots, update)
        for param in params.values():
            param[:] = round_to_grid(param, grid)
        for slot in slots.values():
            slot |= {name: round_to_float32(values) for name, values in slot.items()}
        return params, slots

    return exact_optimizer
