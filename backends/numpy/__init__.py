"""The NumPy backend: backpropagation through time by hand, the reference for all the others."""

from .concise import concise
from .machine import array, devices, environment, set_eager, set_threads, synchronize, tensor
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
    "params",
    "predict",
    "scratch",
    "set_eager",
    "set_threads",
    "state",
    "step",
    "synchronize",
    "tensor",
    "train_epoch",
    "train_minibatch",
    "update",
]
