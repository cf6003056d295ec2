"""What PyTorch computes on: CPU, CUDA or MPS, and its threads."""

import os
import re
from collections import Counter

import numpy as np

from rnn_scratch.contract import RNNScratchError

# After an operation OpenMP's threads wait for the next one in a busy loop. On a machine that has
# other work, that lasts longer than the operation (measured: two threads up to five times slower,
# and with ten other processes no end in sight). This number keeps the loop short, but longer than
# the operations between two products, which one thread computes.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch

from .products import multiplier

_process = os.getpid()  # the one that has imported PyTorch
_OWN_CHOICE = torch.get_num_threads()


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    cuda = ["cuda"] if torch.cuda.is_available() else []
    mps = torch.backends.mps.is_available() and dtype != "float64"  # which it does not have
    return [*cuda, *(["mps"] if mps else []), "cpu"]


def set_threads(threads):
    """Compute with this number of threads (None: the framework's own choice), and return it."""
    if os.getpid() != _process:
        # If that one has computed with several threads, OpenMP takes them to be here as well.
        if threads is not None and threads > 1:
            raise RNNScratchError(
                f"The number of threads cannot be {threads}: this process was forked from one that "
                "had imported PyTorch, and may wait forever for that one's threads.\n"
                'Use 1 thread, or start processes by "spawn", as '
                'multiprocessing.get_context("spawn") does.'
            )
        threads = 1
    torch.set_num_threads(threads or _OWN_CHOICE)
    return torch.get_num_threads()


def set_eager(eager):
    """Run functions uncompiled, to debug them, or compiled; called before a model is built."""
    # Nothing here is compiled.


def set_tf32(allowed):
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


set_tf32(False)  # TF32 is faster, but its numbers would not be those of the other backends


def synchronize(tensors, device):
    """Return when these tensors are computed, and all other work of the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def environment():
    """The versions of PyTorch and its libraries, the instructions they use, and the GPU's name."""
    versions = {"torch": str(torch.__version__)}
    names = {"Math Kernel Library": "mkl", "MKL-DNN": "onednn", "oneDNN": "onednn"}
    for name, number in re.findall(f"({'|'.join(names)})\\D*([\\d.]+)", torch.__config__.show()):
        versions[names[name]] = number
    versions["instructions"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        versions |= {"cuda": str(torch.version.cuda), "gpu": torch.cuda.get_device_name()}
    return versions


def memory(device):
    """The most bytes that tensors have taken on the device so far; None where it is unknown."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def multiply(h, matrices):
    """The product of h (N, K) with these matrices, one after another: a bound on training speed."""
    times = Counter(map(id, matrices))
    distinct = {id(W): W for W in matrices}
    products = {key: multiplier(W, times[key]) for key, W in distinct.items()}
    for W in matrices:
        h = products[id(W)](h)
    return h


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    return torch.as_tensor(array, device=device)


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return np.asarray(tensor.detach().cpu())


def to_arrays(params):
    """Parameters, or their gradients, copied to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}
