"""Communication between workers via MPI, as in the NumPy backend.

MXNet's built-in parameter server is unsuitable, because it adds vectors in order of arrival and
rounds float64 to float32.
"""

from mxnet import np
from rnn_scratch.backends.numpy import workers
from rnn_scratch.backends.numpy.workers import join, leave  # noqa: F401 - re-exported

from .machine import array
from .scratch import OPTIMIZERS, clip, gradients


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    parts = workers.all_gather([array(t) for t in tensors])  # per tensor, one array per worker
    return [
        [np.array(part, dtype=part.dtype, ctx=t.ctx) for part in copies]
        for t, copies in zip(tensors, parts)
    ]


def all_reduce(mean_loss, grads):
    """Average the loss and each gradient over all workers, adding in rank order."""
    mean_loss, *mean_grads = (
        sum(parts) / len(parts) for parts in all_gather([mean_loss, *grads.values()])
    )
    return mean_loss, dict(zip(grads, mean_grads))


def train_minibatch_distributed(model, batch, state, update):
    """Train on the workers' averaged gradients; return the mean loss and this worker's state."""
    mean_loss, grads, state = gradients(model, batch, state)
    mean_loss, grads = all_reduce(mean_loss, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean_loss, state
