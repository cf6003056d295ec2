"""Exact mode: the same parameters in every framework, to the last bit.

Frameworks add the terms of a matrix product in different orders. In float64 an element of a
gradient therefore differs between them by a rounding error of about 1e-17. In ordinary training
such a difference enters the parameters, and where the loss surface is steep it grows, to percents
in the first two hundred epochs of the chapter's training. In exact mode each step lr * g, where g
is the clipped gradient, is rounded to a multiple of GRID before it is taken. Two values 1e-17 apart
are rounded to the same multiple, and the difference is gone, unless the midpoint of two multiples
lies between them.

The state that a minibatch passes on to the next differs as well. Where the weights are large the
network is chaotic: in each time step such a difference grows by a factor. So the state is rounded
to multiples of STATE_GRID, and a difference in it can grow over the time steps of one minibatch,
but not over those of an epoch.

So exact mode can fail, but rarely: two values at a distance d are rounded to different multiples
with probability d / GRID. How safe one run was can be measured: a tool observes how close
its steps came to a midpoint (``notebooks/measure/certificate.py``). Coarser grids would make
failures rarer. GRID is 2**-16 because the chapter's training is as good with it as
without, and because with a coarser one and a small learning rate every step would be rounded to
zero. STATE_GRID is coarser because states differ by more than steps do; the chapter's training is
as good with it as without, too.

With a stateful optimizer, the clipped gradient is rounded to multiples of FINE_GRID before it
enters the state, and so is the step: an Adam whose learning rate is below half of FINE_GRID would
train nothing.
"""

import hashlib

import numpy as np

from .contract import Arrays

GRID = 2.0**-16  # of a step, in exact mode
# With a stateful optimizer, whose steps are smaller, and of the clipped gradient before it enters
# the state: where Adam divides a gradient by its own size, rounding the step alone would not do.
FINE_GRID = 2.0**-20
STATE_GRID = 2.0**-10  # of the state that a minibatch passes on to the next


def digest(arrays: Arrays) -> str:
    """Return 16 hexadecimal digits, which are equal only if every bit of every array is."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]
