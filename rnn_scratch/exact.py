"""Exact mode: the same parameters in every framework, to the last bit.

Frameworks add up the terms of a matrix product in different orders, so that in float64 an element
of a gradient differs between them by rounding, 1e-18 to 1e-17. In ordinary training such a
difference enters the parameters, and after some two hundred epochs the loss surface is so steep
that it has grown to percents. In exact mode each step lr * g, with g the clipped gradient, is
rounded to a multiple of GRID before it is taken. Two values 1e-17 apart round to the same multiple
unless the middle between two multiples lies between them; then nothing differs that could grow.

It is a matter of odds: two values a distance d apart part with probability d / GRID. Summed over
all elements of all steps, `tests/tools/odds.py` measures the number of divergences to
expect in a whole training, recorded in ``notebooks/records/odds.json``. A grid four times as coarse
has a fourth of it. This one is 2**-16 because the quality of the chapter's training does not
suffer (the same record has the perplexities), and because with a coarser one
still a small learning rate would leave no step to take. Rounding the state that is carried, too,
was tried and is not done: it would take about a tenth off the odds.
"""

import hashlib

import numpy as np

from .contract import Arrays

GRID = 2.0**-16  # of a step, in exact mode


def digest(arrays: Arrays) -> str:
    """16 hexadecimal digits that are equal only where every bit of every parameter is."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]
