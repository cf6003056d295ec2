"""The only source of randomness: every random number in the project is drawn here.

A generator is keyed by (seed, purpose, epoch), so that a run can be resumed from any epoch without
stored random states, and one more draw in one place changes no number in another. NumPy guarantees
that the streams of ``RandomState`` never change; those of ``Generator`` may (NEP 19). Backends on
different NumPy versions must get the same numbers.
"""

import numpy as np

PURPOSES = {"initial": 1, "offset": 2, "shuffle": 3, "decoding": 4, "growth": 5, "dropout": 6}


def generator(seed: int, purpose: str, epoch: int = 0, *minibatch: int) -> np.random.RandomState:
    """Return the generator for one purpose in one epoch, or in one of its minibatches.

    All numbers are from 0 to 2**32 - 1.
    """
    return np.random.RandomState([seed, PURPOSES[purpose], epoch, *minibatch])
