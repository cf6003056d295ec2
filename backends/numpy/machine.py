"""What NumPy computes on: one device, and the threads of its linear algebra library."""

import numpy as np
import threadpoolctl


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    return ["cpu"]


def set_threads(threads):
    """Compute with so many threads from here on (None: its own choice), and say how many."""
    if threads is not None:
        threadpoolctl.threadpool_limits(limits=threads, user_api="blas")
    return max((pool["num_threads"] for pool in _blas()), default=1)


def set_eager(eager):
    """Nothing to do: nothing here is compiled."""


def set_tf32(allowed):
    """Nothing to do: there is no GPU here."""


def synchronize(tensors, device):
    """Nothing to wait for: NumPy returns when it is done."""


def environment():
    """The versions of NumPy and of the linear algebra library that it multiplies matrices with."""
    blas = ", ".join(sorted({f"{pool['internal_api']} {pool['version']}" for pool in _blas()}))
    return {"numpy": np.__version__, "blas": blas or "unknown"}


def memory(device):
    """None: NumPy has no device apart from the process."""


def multiply(h, W, times):
    """`times` products of h (N, H) and W (H, H), one after another: what limits training."""
    for _ in range(times):
        h = h @ W.T
    return h


def tensor(array, device):
    """The array itself."""
    return array


def array(tensor):
    """The array itself."""
    return tensor


def to_arrays(params):
    """Parameters, or their gradients, copied to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def _blas():
    return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
