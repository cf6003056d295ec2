"""Training steps in parts: gradients, and the update of the parameters.

Plain training uses the backend's `train_minibatch`, which a framework may compile as a whole. Exact
mode rounds values between the parts, and several workers average the gradients there.
"""

from collections.abc import Callable

from .contract import Backend, Batch, Model, Params, State, Tensor, Update
from .exact import STATE_GRID

TrainingStep = Callable[[Model, Batch, State, Update], tuple[Tensor, State]]


def compose(backend: Backend, exact: bool, average: Callable | None = None) -> TrainingStep:
    """Return a training step that consists of two compiled parts.

    Args:
        backend: Backend that computes the parts.
        exact: Whether to round gradients, parameters, slots and the carried state.
        average: Function that replaces the mean loss, the gradients and the state of this worker's
            rows by those of all workers, or None. `workers.WorkerGroup` describes its arguments.
    """
    scratch = backend.scratch

    def compute_gradients(
        model: Model, batch: Batch, state: State, update: Update
    ) -> tuple[Tensor, Params, State]:
        return scratch.gradients(model, batch, state)

    def apply_gradients(model: Model, grads: Params, state: State, update: Update) -> None:
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
