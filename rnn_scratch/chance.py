"""The one source of chance: every draw in the project comes from here.

A generator is keyed by (seed, purpose, epoch), so that a run can go on from any epoch without
stored random states, and so that one draw more in one place moves no number in another. NumPy
keeps the streams of ``RandomState`` as they are for good, and not those of ``Generator`` (NEP 19):
backends on different NumPy versions must see the same numbers.
"""

import numpy as np

PURPOSES = {"initial": 1, "offset": 2, "shuffle": 3, "decoding": 4}


def generator(seed: int, purpose: str, epoch: int = 0) -> np.random.RandomState:
    """The generator for one purpose in one epoch; seed and epoch are from 0 to 2**32 - 1."""
    return np.random.RandomState([seed, PURPOSES[purpose], epoch])
