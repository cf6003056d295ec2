"""NumPy's device, the threads of its linear algebra library, and conversions."""

import numpy as np
import threadpoolctl


def devices(dtype):
    """Return the devices that support this dtype, best first."""
    return ["cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    threadpoolctl.threadpool_limits(limits=threads or _DEFAULT_THREADS, user_api="blas")
    return num_threads()


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    # Nothing here is compiled.


def set_tf32(allowed):
    """Allow or forbid TF32 matrix products on NVIDIA GPUs (10 of 23 mantissa bits)."""
    # NumPy does not use GPUs.


def synchronize(tensors, device):
    """Block until these tensors, and all other work on the device, are computed."""
    # NumPy computes synchronously.


def environment():
    """Return the versions of NumPy and of its linear algebra library."""
    # The library has a kernel for each processor architecture, and may not know the newest one.
    names = {
        f"{pool['internal_api']} {pool['version']}"
        + (f" for {pool['architecture']}" if pool.get("architecture") else "")
        for pool in _blas()
    }
    return {"numpy": np.__version__, "blas": ", ".join(sorted(names)) or "unknown"}


def peak_memory(device):
    """Return the peak memory of tensors on the device in bytes, or None if unknown."""
    return None  # NumPy has no device with separate memory


def chain_matmul(h, matrices):
    """Multiply h (N, K) by the matrices in turn; an upper bound on training speed."""
    for W in matrices:
        h = h @ W
    return h


def tensor(array, device):
    """Convert an array to a tensor of the same dtype on the device."""
    return array


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return tensor


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def num_threads():
    """Return the number of threads of the linear algebra library."""
    return max((pool["num_threads"] for pool in _blas()), default=1)


def _blas():
    return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


_DEFAULT_THREADS = num_threads()
