"""Matrix products and their companions, in the forms that MXNet computes fastest.

MXNet has two libraries for products of float32: `@` uses OpenBLAS, npx.fully_connected uses oneDNN.
Products of float64 are OpenBLAS's with both.
"""

import mxnet
from mxnet import npx


def product(h, W_T):
    """h @ W, where `W_T` (H, H) is the transpose of W: h (B, H) to (B, H)."""
    # Transposed products: it computes W.T @ h.T, because oneDNN rearranges the weights before it
    # multiplies. With h, which is smaller, in the place of the weights that takes less time.
    # Gain: 0.95, 1.11.
    return npx.fully_connected(W_T, h, num_hidden=len(h), no_bias=True).T


def outer(x, y):
    """x.T @ y, the sum of N outer products: x (N, H), y (N, H) to (H, H)."""
    # oneDNN products: faster than `@` on some processors, and as fast on others. The transposed
    # copies are made by an operation for MXNet's older arrays, which is faster than the new one.
    # Gain: 1.13, 1.10.
    x, y = (mxnet.nd.transpose(z.as_nd_ndarray()).as_np_ndarray() for z in (x, y))
    return npx.fully_connected(x, y, num_hidden=len(y), no_bias=True)


def affine(x, W, b):
    """x @ W + b: x (N, H), W (H, V), b (V,) to (N, V)."""
    return npx.fully_connected(x, W.T, b, num_hidden=len(b))  # oneDNN products: see `outer`


def split(x, size):
    """The rows of x (N, H) in parts (size, H)."""
    # Parts in one operation: np.split takes many times as long. This one is for MXNet's older
    # arrays, and returns a list only for two parts or more.
    # Gain: 1.45, 1.50.
    parts = mxnet.nd.SliceChannel(x.as_nd_ndarray(), num_outputs=len(x) // size, axis=0)
    return [part.as_np_ndarray() for part in (parts if len(x) > size else [parts])]
