"""Two-part training steps for exact mode and data-parallel training.

Plain training uses the backend's `train_minibatch`, which a framework may compile as a whole.
"""

from collections.abc import Callable

from .contract import Backend, Batch, Gradients, Model, Params, State, Tensor, Update
from .exact import STATE_GRID


def compose(backend: Backend, exact: bool, average: Callable | None = None) -> Callable:
    """Return a training step that computes gradients and then updates the parameters.

    With `exact`, the step rounds gradients, parameters, slots and the carried state. `average` is
    None or a worker group's `distribute` method, which averages gradients across workers.
    """
    scratch = backend.scratch

    def compute_gradients(model: Model, batch: Batch, state: State, update: Update) -> Gradients:
        return scratch.gradients(model, batch, state)

    def apply_gradients(model: Model, grads: Params, state: State, update: Update) -> None:
        grads = {name: grads[name] for name in model.params}  # JAX sorts keys
        grads, _ = scratch.clip(grads, update.theta)
        optimizer = scratch.OPTIMIZERS[update.optimizer]
        (backend.exact.make_exact(optimizer) if exact else optimizer)(model, grads, update)

    compute_gradients = backend.machine.jit_update(compute_gradients)
    apply_gradients = backend.machine.jit_update(apply_gradients)
    if average is not None:
        compute_gradients = average(backend, compute_gradients)

    def train_minibatch(
        model: Model, batch: Batch, state: State, update: Update
    ) -> tuple[Tensor, State]:
        mean_loss, grads, state = compute_gradients(model, batch, state, update)
        apply_gradients(model, grads, (), update)
        if exact:
            state = tuple(backend.exact.round_to_grid(tensor, STATE_GRID) for tensor in state)
        return mean_loss, state

    return train_minibatch
