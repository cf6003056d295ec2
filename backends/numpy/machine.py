"""What NumPy computes on: one device, and the threads of its linear algebra library."""

import numpy as np
import threadpoolctl


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    return ["cpu"]


def set_threads(threads):
    """Compute with this number of threads (None: the framework's own choice), and return it."""
    threadpoolctl.threadpool_limits(limits=threads or _OWN_CHOICE, user_api="blas")
    return num_threads()


def set_eager(eager):
    """Run functions uncompiled, to debug them, or compiled; called before a model is built."""
    # Nothing here is compiled.


def set_tf32(allowed):
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23."""
    # There is no GPU here.


def synchronize(tensors, device):
    """Return when these tensors are computed, and all other work of the device."""
    # NumPy returns when it is done.


def environment():
    """The versions of NumPy and of the library that it multiplies matrices with."""
    # One library has a kernel for each kind of processor, and may not know the newest.
    names = {
        f"{pool['internal_api']} {pool['version']}"
        + (f" for {pool['architecture']}" if pool.get("architecture") else "")
        for pool in _blas()
    }
    return {"numpy": np.__version__, "blas": ", ".join(sorted(names)) or "unknown"}


def memory(device):
    """The most bytes that tensors have taken on the device so far; None where it is unknown."""
    return None  # NumPy has no device with a memory of its own


def multiply(h, matrices):
    """The product of h (N, K) with these matrices, one after another: a bound on training speed."""
    for W in matrices:
        h = h @ W
    return h


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    return array


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return tensor


def to_arrays(params):
    """Parameters, or their gradients, copied to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def num_threads():
    """The number of threads that the linear algebra library computes with."""
    return max((pool["num_threads"] for pool in _blas()), default=1)


def _blas():
    return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


_OWN_CHOICE = num_threads()
