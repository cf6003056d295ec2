"""Two-part training steps for exact mode and data-parallel training.

Plain training uses the backend's `train_minibatch`, which a framework may compile as a whole.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from .contract import (
    Backend,
    Batch,
    Gradients,
    ModelConfig,
    Params,
    Slots,
    State,
    Tensor,
    UpdateRule,
)
from .exact import STATE_GRID


def make_training_step(backend: Backend, exact: bool, average: Callable | None = None) -> Callable:
    """Return a training step that computes gradients and then updates the parameters.

    With `exact`, the step rounds gradients, parameters, slots and the carried state. `average` is
    None or a worker group's `distribute` method, which averages gradients across workers.
    """
    make_exact = backend.exact.make_exact if exact else None
    compute_gradients, apply_gradients = _compile(backend.scratch, make_exact, backend.machine.jit)
    if average is not None:
        compute_gradients = average(backend, compute_gradients)

    def train_minibatch(
        params: Params,
        slots: Slots,
        batch: Batch,
        state: State,
        update: UpdateRule,
        options: ModelConfig,
        gradients: Callable[..., Gradients],
    ) -> tuple[Tensor, Params, Slots, State]:
        mean_loss, grads, state = compute_gradients(params, batch, state, options, gradients)
        params, slots = apply_gradients(params, grads, slots, update, options)
        if exact:
            state = tuple(backend.exact.round_to_grid(tensor, STATE_GRID) for tensor in state)
        return mean_loss, params, slots, state

    return train_minibatch


@cache  # so that all models share the compiled functions
def _compile(scratch: Any, make_exact: Callable | None, jit: Callable) -> tuple[Callable, Callable]:
    """Compile the two parts of a training step: compute gradients, and apply them."""

    def compute_gradients(
        params: Params, batch: Batch, state: State, options: ModelConfig, gradients: Callable
    ) -> Gradients:
        result: Gradients = gradients(params, batch, state, options)
        return result

    def apply_gradients(
        params: Params, grads: Params, slots: Slots, update: UpdateRule, options: ModelConfig
    ) -> tuple[Params, Slots]:
        grads, _ = scratch.clip(grads, update.theta)
        optimizer = scratch.OPTIMIZERS[update.optimizer]
        optimizer = make_exact(optimizer) if make_exact else optimizer
        result: tuple[Params, Slots] = optimizer(params, grads, slots, update)
        return result

    return jit(compute_gradients), jit(apply_gradients)
