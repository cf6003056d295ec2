"""PyTorch's devices (CPU, CUDA or MPS), threads and array conversion.

Importing this module disables TF32 and sets GOMP_SPINCOUNT unless it is already set.
"""

import os
import re

import numpy as np

from rnn_scratch.contract import RNNScratchError

# OpenMP threads spin while they wait for work. On a busy machine, spinning costs more time than the
# operations themselves (measured: up to 5 times slower with two threads; no progress alongside ten
# other processes). This small spin count is enough to bridge the single-threaded operations between
# two matrix products.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch

# Disable TF32 on NVIDIA GPUs: with 10 mantissa bits instead of 23, its results would differ from
# those of other backends.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False

_owner_pid = os.getpid()  # process that imported PyTorch
_DEFAULT_THREADS = torch.get_num_threads()


def devices(dtype):
    """Return the available devices that support `dtype`, in order of preference."""
    cuda = ["cuda"] if torch.cuda.is_available() else []
    has_mps = torch.backends.mps.is_available() and dtype != "float64"  # MPS lacks float64
    return [*cuda, *(["mps"] if has_mps else []), "cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    if os.getpid() != _owner_pid:
        # If the parent process used several threads, OpenMP expects them to exist in this one, too.
        if threads is not None and threads > 1:
            raise RNNScratchError(
                f"Cannot use {threads} threads: this process was forked after PyTorch was imported "
                "and could wait forever for threads of its parent process.\n"
                'Use 1 thread, or start processes with multiprocessing.get_context("spawn").'
            )
        threads = 1
    torch.set_num_threads(threads or _DEFAULT_THREADS)
    return torch.get_num_threads()


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    # This backend does not compile.


def synchronize(tensors, device):
    """Block until the device has computed these tensors."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def versions():
    """Return the versions of PyTorch and its libraries, the instruction set, and the GPU's name."""
    versions = {"torch": str(torch.__version__)}
    names = {"Math Kernel Library": "mkl", "MKL-DNN": "onednn", "oneDNN": "onednn"}
    for name, version in re.findall(f"({'|'.join(names)})\\D*([\\d.]+)", torch.__config__.show()):
        versions[names[name]] = version
    versions["instructions"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        versions |= {"cuda": str(torch.version.cuda), "gpu": torch.cuda.get_device_name()}
    return versions


def tensor(array, device):
    """Convert a NumPy array to a tensor of the same dtype on `device`."""
    return torch.as_tensor(array, device=device)


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return np.asarray(tensor.detach().cpu())


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}
