"""Matrix products on several threads."""

import os

import tensorflow as tf

from rnn_scratch.system import host


def split(W, device):
    """Split a matrix into column blocks, one for each thread that computes on the device."""
    # TensorFlow computes a product (B, H) @ (H, G*H) in one thread. Products with column blocks are
    # independent, so they run in several threads.
    columns = W.shape[1]
    number = 1 if device == "cuda" else max(1, min(num_threads(), columns // 128))
    size, larger = divmod(columns, number)
    return tf.split(W, [size + 1] * larger + [size] * (number - larger), 1)


def product(h, blocks):
    """Compute h @ W from the column blocks of W."""
    return tf.concat([h @ block for block in blocks], 1) if len(blocks) > 1 else h @ blocks[0]


def num_threads():
    """Return the number of operations that TensorFlow computes in parallel."""
    # If it has not been set, TensorFlow uses the number of cores.
    default = int(os.environ.get("TF_NUM_INTEROP_THREADS") or host.cores())
    return tf.config.threading.get_inter_op_parallelism_threads() or default
