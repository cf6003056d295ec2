"""Exact mode: all frameworks compute the same parameters, bit for bit.

Frameworks add the terms of a matrix product in different orders. In float64, an element of a
gradient therefore differs between them by a rounding error of about 1e-17. In ordinary training,
it enters the parameters. If the loss surface is steep it grows, to percents in the
first two hundred epochs of the chapter's training. In exact mode, each update rounds the parameters
to multiples of GRID. Two values 1e-17 apart are rounded to the same multiple, and the difference is
gone, unless the midpoint of two multiples lies between them.

The state that a minibatch passes to the next differs, too. If the weights are large, the network is
chaotic: a difference grows by a factor in each time step. So the state is rounded to multiples of
STATE_GRID. A difference can grow over the time steps of one minibatch, but not over an epoch.

Exact mode can fail, but rarely: two values at a distance d are rounded to different multiples with
probability d / GRID. The safety of a run can be measured: a tool observes how close its values came
to a midpoint (``notebooks/measure/certificate.py``). Coarser grids would make failures rarer. With
GRID and STATE_GRID, the chapter's training is as good as without; with a much coarser GRID and a
small learning rate, rounding would undo every update.

The clipped gradients are rounded before the optimizer uses them: to GRID, or to FINE_GRID if they
enter slots, because Adam divides a gradient by its size. Slots are rounded to float32, and so are
the constants of an update. Products of such numbers are exact in float64, so it does not matter
whether a processor rounds a product before it adds it (fused multiply-add).
"""

import hashlib

import numpy as np

from .contract import Arrays, Update

GRID = 2.0**-16  # parameters; clipped gradients of an optimizer without slots
FINE_GRID = 2.0**-20  # clipped gradients of an optimizer with slots
STATE_GRID = 2.0**-10  # the state that a minibatch passes to the next
SMALLEST = 2.0**-100  # slots; some frameworks flush smaller float32 numbers to zero


def update(rule: Update) -> Update:
    """Return the update for exact mode: with its name of the optimizer, and float32 numbers."""
    names = "lr", "weight_decay", "beta1", "beta2", "epsilon"
    numbers = {name: float(np.float32(getattr(rule, name))) for name in names}
    return rule._replace(optimizer=f"exact {rule.optimizer}", **numbers)


def digest(arrays: Arrays) -> str:
    """Return 16 hexadecimal digits that are equal only if all arrays are equal bit for bit."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]
