"""The communication library for several workers: MPI, as in NumPy's backend.

MXNet's built-in library is a parameter server: it adds in the order in which vectors arrive, and
rounds float64 to float32.
"""

from mxnet import np
from rnn_scratch.backends.numpy import workers
from rnn_scratch.backends.numpy.workers import join, leave  # noqa: F401 - the same functions

from .machine import array
from .scratch import OPTIMIZERS, clip, gradients


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    parts = workers.all_gather([array(t) for t in tensors])  # N arrays for each tensor
    return [
        [np.array(part, dtype=part.dtype, ctx=t.ctx) for part in copies]
        for t, copies in zip(tensors, parts)
    ]


def all_reduce(mean, grads):
    """Average the loss and each gradient over the workers, added in rank order."""
    mean, *means = (sum(parts) / len(parts) for parts in all_gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


def train_minibatch_distributed(model, batch, state, update):
    """Update all workers' parameters once; return the mean loss and this worker's state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean, state
