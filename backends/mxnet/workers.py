"""The engine for training in several processes: MPI, as NumPy's backend has it.

MXNet's own engine is a parameter server: it adds in the order in which vectors arrive, and rounds a
float64 to a float32.
"""

from mxnet import np
from rnn_scratch.backends.numpy import workers
from rnn_scratch.backends.numpy.workers import engine, join, leave  # noqa: F401 - they are the same

from .machine import array
from .scratch import OPTIMIZERS, clip, gradients, rounded


def all_gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    parts = workers.all_gather([array(t) for t in tensors])  # for each tensor, N arrays
    return [
        [np.array(part, dtype=part.dtype, ctx=t.ctx) for part in each]
        for t, each in zip(tensors, parts)
    ]


def all_reduce(mean, grads):
    """Mean over the workers of the loss and of each gradient, added in the order of their ranks."""
    mean, *means = (sum(parts) / len(parts) for parts in all_gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


def train_together(model, batch, state, how):
    """One update of all workers, each from its own rows: their mean loss, and its own state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, how.theta)
    OPTIMIZERS[how.optimizer](model, grads, how, batch.rates)
    return mean, tuple(rounded(each, how.state_grid) for each in state)
