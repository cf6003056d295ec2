"""Exact mode: the same parameters in every framework, to the last bit.

Frameworks add the terms of a matrix product in different orders. In float64 an element of a
gradient therefore differs between them by a rounding error of 1e-18 to 1e-17. In ordinary training
such a difference enters the parameters, and where the loss surface is steep it grows to percents:
after some epochs or some hundreds, depending on the text. In exact mode each step lr * g, where g
is the clipped gradient, is rounded to a multiple of GRID before it is taken. Two values 1e-17 apart
are rounded to the same multiple, and the difference is gone, unless the midpoint of two multiples
lies between them.

So exact mode can fail, but rarely: two values at a distance d are rounded to different multiples
with probability d / GRID. How safe one run was is known afterwards: `check --exact`
observes how close its steps came to a midpoint (``check/certificate.py``). A coarser grid would
make failures rarer. The grid is 2**-16 because the chapter's training is as good with it as
without, and because with a coarser grid and a small learning rate every step would be rounded to
zero. Rounding the carried state as well was tried: it would change little.
"""

import hashlib

import numpy as np

from .contract import Arrays

GRID = 2.0**-16  # of a step, in exact mode


def distances(steps: np.ndarray) -> np.ndarray:
    """How far each step is from the nearest midpoint of two multiples of GRID."""
    # Nothing is rounded here: GRID is a power of two, and near a midpoint a difference is exact.
    multiples = np.abs(steps) / GRID
    return np.abs(multiples - np.floor(multiples) - 0.5) * GRID


def digest(arrays: Arrays) -> str:
    """16 hexadecimal digits; they are equal only if every bit of every parameter is."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]
