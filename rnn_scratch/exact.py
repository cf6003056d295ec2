"""Exact mode: all frameworks compute the same parameters, bit for bit.

Frameworks add the terms of a matrix product in different orders, so a float64 gradient
element differs between frameworks by a rounding error of about 1e-17. In exact mode, each update
rounds the parameters to multiples of GRID. Two values that differ by d round to the same multiple,
except with probability d / GRID. The state carried to the next minibatch is rounded to multiples
of STATE_GRID, because large weights amplify differences at each time step.

If the optimizer has slots, FINE_GRID replaces GRID, because Adam divides a gradient by its
magnitude. Clipped gradients are rounded to the same grid; slots and hyperparameters are rounded to
float32 because products of float32 values are exact in float64, with or without fused multiply-add.
"""

import hashlib
from typing import Any

import numpy as np

from .contract import Arrays, UpdateRule

GRID = 2.0**-16  # grid for clipped gradients and parameters if the optimizer has no slots
FINE_GRID = 2.0**-20  # grid for clipped gradients and parameters if the optimizer has slots
STATE_GRID = 2.0**-10  # grid for the carried state
MIN_VALUE = 2.0**-100  # smaller slot magnitudes become 0, because some frameworks flush subnormals


def exact_update(update: UpdateRule) -> UpdateRule:
    """Return `update` for exact mode, with constants rounded to float32."""
    names = "lr", "weight_decay", "beta1", "beta2", "epsilon"
    constants: dict[str, Any] = {n: float(np.float32(getattr(update, n))) for n in names}
    return update._replace(**constants)


def digest(arrays: Arrays) -> str:
    """Return the first 16 hex digits of the arrays' SHA-256 (names, dtypes, shapes and values)."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]
