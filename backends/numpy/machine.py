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
    # OpenBLAS does not recognize every virtual CPU; this variable then selects faster kernels.
    suffix = " (OPENBLAS_CORETYPE)" if os.environ.get("OPENBLAS_CORETYPE") else ""
    return {"numpy": np.__version__, "blas": blas + suffix}


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
