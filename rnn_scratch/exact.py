"""Exact mode: the same parameters in every framework, to the last bit.

Frameworks add up the terms of a matrix product in different orders, so that in float64 an element
of a gradient differs between them by rounding, 1e-18 to 1e-17. In ordinary training such a
difference enters the parameters, and after some two hundred epochs the loss surface is so steep
that it has grown to percents. In exact mode each step lr * g, with g the clipped gradient, is
rounded to a multiple of GRID before it is taken. Two values 1e-17 apart round to the same multiple
unless the middle between two multiples lies between them; then nothing differs that could grow.
"""

import hashlib

import numpy as np

from .contract import Arrays

GRID = 2.0**-20  # of a step, in exact mode


def digest(arrays: Arrays) -> str:
    """16 hexadecimal digits that are equal only where every bit of every parameter is."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]
