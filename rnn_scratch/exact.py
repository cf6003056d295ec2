"""Exact mode: all frameworks compute the same parameters, bit for bit.

Frameworks add the terms of a matrix product in different orders. In float64, an element of a
gradient therefore differs between frameworks by a rounding error of about 1e-17. In ordinary
training, this error enters the parameters and grows. In exact mode, each update rounds the
parameters to a grid: to multiples of GRID, or of FINE_GRID if the optimizer has slots. Rounding
maps two values that differ by 1e-17 to the same multiple, unless a midpoint between two multiples
separates the values.

The state that is carried to the next minibatch also differs. If the weights are large, the network
is chaotic: each time step amplifies the difference. Therefore, the carried state is rounded to
multiples of STATE_GRID, so that a difference can grow only within a minibatch.

Two values that differ by d are rounded to different multiples with probability d / GRID. Coarser
grids would make such failures of exact mode rarer, but with a much coarser GRID and a small
learning rate, rounding would undo every update.

Clipped gradients are rounded to the same grid before the optimizer uses them. FINE_GRID is finer,
because Adam divides a gradient by its magnitude. Slots, learning rate, weight decay, β1, β2 and ε
are rounded to float32. Products of float32 values are exact in float64, so it does not matter
whether a processor rounds a product before adding it or uses fused multiply-add.
"""

import hashlib
from typing import Any

import numpy as np

from .contract import Arrays, Update

GRID = 2.0**-16  # grid of clipped gradients and parameters if the optimizer has no slots
FINE_GRID = 2.0**-20  # grid of clipped gradients and parameters if the optimizer has slots
STATE_GRID = 2.0**-10  # grid of the carried state
MIN_VALUE = 2.0**-100  # smaller slot values become 0, because some frameworks flush subnormals


def exact_update(update: Update) -> Update:
    """Return `update` for exact mode, with constants rounded to float32."""
    names = "lr", "weight_decay", "beta1", "beta2", "epsilon"
    constants: dict[str, Any] = {n: float(np.float32(getattr(update, n))) for n in names}
    return update._replace(**constants)


def digest(arrays: Arrays) -> str:
    """Return 16 hex digits of the SHA-256 of the arrays' names, dtypes, shapes and values."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]
