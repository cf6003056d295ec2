"""Exact mode: rounding functions that make all frameworks agree bit for bit.

`rnn_scratch.exact` explains the grids, and `rnn_scratch.steps` applies these functions.
"""

import jax
import jax.numpy as jnp

from rnn_scratch.exact import FINE_GRID, GRID, MIN_VALUE


def round_to_grid(values, grid):
    """Round values to the nearest multiple of `grid`, with ties to even."""
    return jnp.round(values / grid) * grid


def round_to_float32(values):
    """Round float64 values to the nearest float32 values; flush magnitudes below MIN_VALUE to 0."""
    nearest = jax.lax.reduce_precision(values, 8, 23)  # XLA could remove a cast to float32 and back
    return jnp.where(jnp.abs(nearest) < MIN_VALUE, 0, nearest)


def make_exact(optimizer):
    """Wrap an optimizer so that it rounds gradients, parameters and slots."""

    def exact_optimizer(model, grads, update):
        grid = FINE_GRID if model.slots else GRID
        grads = {name: round_to_grid(grad, grid) for name, grad in grads.items()}
        optimizer(model, grads, update)
        for name, param in model.params.items():
            model.params[name] = round_to_grid(param, grid)
        for slot in model.slots.values():
            slot |= {name: round_to_float32(values) for name, values in slot.items()}

    return exact_optimizer
