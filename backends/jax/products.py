"""Thread and row-block counts for matrix products."""

import os

import jax

from rnn_scratch.system import host


def num_row_blocks(rows, weights):
    """Return the number of row blocks for a product of `rows` rows and `weights` weights."""
    threads = num_threads()
    # Splitting would slow down products with fewer weights or rows (measured with two threads).
    is_large = weights >= 2**18 and rows % threads == 0 and rows >= 16 * threads
    return threads if is_large and jax.default_backend() == "cpu" else 1


def num_threads():
    """Return the number of threads that XLA uses, or will use once it starts."""
    return int(os.environ.get("NPROC") or host.cores())
