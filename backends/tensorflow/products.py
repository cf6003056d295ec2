"""Multithreaded matrix products."""

import os

import tensorflow as tf

from rnn_scratch.system import host


def split(W, device):
    """Split a matrix into column blocks: at most one per thread on a CPU, only one on a GPU."""
    # `fast.recurrence` explains why.
    columns = W.shape[1]
    num_blocks = 1 if device == "cuda" else max(1, min(num_threads(), columns // 128))
    size, num_larger = divmod(columns, num_blocks)
    return tf.split(W, [size + 1] * num_larger + [size] * (num_blocks - num_larger), 1)


def product(h, blocks):
    """Compute h @ W from the column blocks of W."""
    return tf.concat([h @ block for block in blocks], 1) if len(blocks) > 1 else h @ blocks[0]


def num_threads():
    """Return the maximum number of operations that TensorFlow runs in parallel."""
    # By default, TensorFlow uses one thread per core.
    default = int(os.environ.get("TF_NUM_INTEROP_THREADS") or host.cores())
    return tf.config.threading.get_inter_op_parallelism_threads() or default
