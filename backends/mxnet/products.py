"""Matrix products and related operations, in the forms that MXNet computes fastest.

MXNet multiplies float32 matrices with two libraries: `@` uses OpenBLAS, and npx.fully_connected
uses oneDNN. For float64, both operations use OpenBLAS.
"""

import mxnet
from mxnet import np, npx


def product(h, W_T):
    """Compute h @ W (B, K) from h (B, H) and `W_T` (K, H), the transpose of W."""
    # Transposed products: compute W.T @ h.T, because oneDNN rearranges the second factor before it
    # multiplies. Rearranging h takes less time than rearranging W, because h is smaller.
    return transpose(npx.fully_connected(W_T, h, num_hidden=len(h), no_bias=True))


def weight_grad(h, dz):
    """Compute dz.T @ h (K, H), the gradient w.r.t. W_T, from h (N, H) and dz (N, K)."""
    # oneDNN products: oneDNN is faster than OpenBLAS on some CPUs and never slower (measured).
    h_T, dz_T = transpose(h), transpose(dz)
    return npx.fully_connected(dz_T, h_T, num_hidden=len(h_T), no_bias=True)


def sum_rows(x):
    """Sum the rows of x (N, K), with a product because `x.sum(0)` takes 5 times as long."""
    ones = np.ones_like(columns(x, 0, 1))  # (N, 1)
    return (ones.T @ x).reshape(-1)  # (K,)


def transpose(x):
    """Return a transposed copy of x, using a legacy-array operation that is faster than `.T`."""
    return mxnet.nd.transpose(x.as_nd_ndarray()).as_np_ndarray()


def linear(x, W, b):
    """Compute x @ W + b (N, M) from x (N, K), W (K, M) and b (M,)."""
    return npx.fully_connected(x, W.T, b, num_hidden=len(b))  # oneDNN products: see `weight_grad`


def split(x, size):
    """Split the rows of x (N, H) into parts (size, H)."""
    # Parts in one operation: SliceChannel splits faster than np.split. It needs legacy arrays and
    # returns a list only if there are several parts.
    parts = mxnet.nd.SliceChannel(x.as_nd_ndarray(), num_outputs=len(x) // size, axis=0)
    return [part.as_np_ndarray() for part in (parts if len(x) > size else [parts])]


def columns(x, start, stop):
    """Return columns `start` to `stop` - 1 of x (N, K)."""
    return mxnet.nd.slice_axis(x.as_nd_ndarray(), axis=1, begin=start, end=stop).as_np_ndarray()


def chunk(x, num_parts):
    """Split the columns of x (N, num_parts*H) into parts (N, H)."""
    size = x.shape[1] // num_parts
    return [columns(x, i * size, (i + 1) * size) for i in range(num_parts)]


def join(*parts):
    """Concatenate the columns of parts (N, H), using an operation faster than np.concatenate."""
    return mxnet.nd.concat(*(part.as_nd_ndarray() for part in parts), dim=1).as_np_ndarray()
