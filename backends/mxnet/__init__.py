"""The MXNet backend: loops recorded once, then replayed as graphs; differentiated by autograd."""

from .machine import (
    array,
    devices,
    environment,
    memory,
    multiply,
    set_eager,
    set_tf32,
    set_threads,
    synchronize,
    tensor,
)

# isort: split
# The machine comes first: it sets what must be set before MXNet is imported.
from .concise import concise
from .scratch import (
    clip,
    detach,
    encode,
    evaluate,
    forward,
    gradients,
    loss,
    params,
    predict,
    scratch,
    state,
    step,
    train_epoch,
    train_minibatch,
    update,
)

__all__ = [
    "array",
    "clip",
    "concise",
    "detach",
    "devices",
    "encode",
    "environment",
    "evaluate",
    "forward",
    "gradients",
    "loss",
    "memory",
    "multiply",
    "params",
    "predict",
    "scratch",
    "set_eager",
    "set_tf32",
    "set_threads",
    "state",
    "step",
    "synchronize",
    "tensor",
    "train_epoch",
    "train_minibatch",
    "update",
]
