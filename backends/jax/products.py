"""Matrix products on several threads."""

import os

import jax

from rnn_scratch.system import host


def num_parts(rows, weights):
    """Into how many parts to divide so many rows, before a product with so many weights."""
    number = num_threads()
    # Smaller products, and those with fewer rows, lose by it (measured with two threads).
    pays = weights >= 2**18 and rows % number == 0 and rows >= 16 * number
    return number if pays and jax.default_backend() == "cpu" else 1


def num_threads():
    """The number of threads that XLA computes with, or will when it starts."""
    return int(os.environ.get("NPROC") or host.cores())
