"""NumPy's device, the threads of its linear algebra library, and array conversion."""

import os

import numpy as np
import threadpoolctl


def devices(dtype):
    """Return the available devices that support `dtype`, in order of preference."""
    return ["cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    threadpoolctl.threadpool_limits(limits=threads or _DEFAULT_THREADS, user_api="blas")
    return num_threads()


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    # This backend does not compile.


def synchronize(tensors, device):
    """Block until the device has computed these tensors."""
    # NumPy computes synchronously.


def versions():
    """Return the versions of NumPy and its linear algebra library."""
    # Include the architecture that the library's kernels target; it may be older than the CPU's.
    names = {
        f"{pool['internal_api']} {pool['version']}"
        + (f" for {pool['architecture']}" if pool.get("architecture") else "")
        for pool in _blas()
    }
    blas = ", ".join(sorted(names)) or "unknown"
    # OpenBLAS does not recognize every virtual CPU; this variable selects faster kernels for it.
    suffix = " (OPENBLAS_CORETYPE)" if os.environ.get("OPENBLAS_CORETYPE") else ""
    return {"numpy": np.__version__, "blas": blas + suffix}


def peak_memory(device):
    """Return the peak memory used by tensors on `device`, in bytes, or None if unknown."""
    return None  # NumPy has no device with separate memory


def chain_matmul(h, matrices):
    """Multiply h (N, K) by the matrices in turn, to measure an upper bound on training speed."""
    for W in matrices:
        h = h @ W
    return h


def tensor(array, device):
    """Convert a NumPy array to a tensor of the same dtype on `device`."""
    return array


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return tensor


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def num_threads():
    """Return the number of threads that the linear algebra library uses."""
    return max((pool["num_threads"] for pool in _blas()), default=1)


def _blas():
    return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


_DEFAULT_THREADS = num_threads()
