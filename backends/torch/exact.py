"""Exact mode: rounding functions that make all frameworks agree bit for bit.

`rnn_scratch.exact` explains the grids, and `rnn_scratch.steps` applies these functions.
"""

import torch

from rnn_scratch.exact import FINE_GRID, GRID, MIN_VALUE


def round_to_grid(values, grid):
    """Round values to the nearest multiple of `grid`, with ties to even."""
    return torch.round(values / grid) * grid


def round_to_float32(values):
    """Round float64 values to the nearest float32 values; flush magnitudes below MIN_VALUE to 0."""
    nearest = values.float().double()
    return torch.where(nearest.abs() < MIN_VALUE, 0, nearest)


def make_exact(optimizer):
    """Wrap an optimizer so that it rounds gradients, parameters and slots."""

    @torch.no_grad()
    def exact_optimizer(params, grads, slots, update):
        grid = FINE_GRID if slots else GRID
        grads = {name: round_to_grid(grad, grid) for name, grad in grads.items()}
        params, slots = optimizer(params, grads, slots, update)
        for param in params.values():
            param.copy_(round_to_grid(param, grid))
        for slot in slots.values():
            slot |= {name: round_to_float32(values) for name, values in slot.items()}
        return params, slots

    return exact_optimizer
