"""What TensorFlow computes on: CPU or CUDA, its threads, and what it needs to start quietly."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf


def on(device):
    return tf.device("/GPU:0" if device == "cuda" else "/CPU:0")


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    return [*(["cuda"] if tf.config.list_physical_devices("GPU") else []), "cpu"]


def set_threads(threads):
    """Compute with so many threads from here on (None: as it is), and say how many it will be."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(int(os.environ.get("NI", "1")))
    return threads


def set_eager(eager):
    """Run the same functions uncompiled, for stepping through them."""
    tf.config.run_functions_eagerly(eager)


def synchronize(device):
    """Return when all that was asked of the device is done."""


def environment():
    return {}


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    with on(device):
        return tf.constant(array)


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return np.asarray(tensor)
