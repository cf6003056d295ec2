"""JAX's devices (CPU or CUDA), threads, compilation and array conversion.

Importing this module disables TF32 and makes JAX allocate GPU memory on demand. It also hides JAX's
startup warnings unless the environment variable named by `contract.VERBOSE` is set.
"""

import contextlib
import inspect
import logging
import os
from importlib.metadata import PackageNotFoundError, version

import jax
import numpy as np

from rnn_scratch.contract import VERBOSE, RNNScratchError, UpdateRule

from .products import num_threads

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # don't preallocate GPU memory
if not os.environ.get(VERBOSE):
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)

# Disable TF32 on NVIDIA GPUs: with 10 mantissa bits instead of 23, its results would differ from
# those of other backends.
jax.config.update("jax_default_matmul_precision", "float32")

_RATES = "lr", "c_m", "c_v"  # the numbers in an update that differ between updates
_owner_pid = os.getpid()  # process that computes with JAX


def devices(dtype):
    """Return the available devices that support `dtype`, in order of preference."""
    return ["cuda", "cpu"] if jax.default_backend() == "gpu" else ["cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    global _owner_pid
    if not _has_started():
        _owner_pid = os.getpid()
    elif os.getpid() != _owner_pid:
        raise RNNScratchError(
            "This process was forked from a process that had already used JAX. A fork does not "
            "copy threads, so this process would wait for them forever.\n"
            'Start processes with multiprocessing.get_context("spawn"), or use JAX only in this '
            "process."
        )
    current_threads = num_threads()
    threads = threads or current_threads
    if threads != current_threads:
        if _has_started():
            raise RNNScratchError(
                f"Cannot set the number of threads to {threads}: JAX fixed it at {current_threads} "
                "when it first computed in this process.\n"
                f"Keep {current_threads} threads, or set {threads} at the start of a new process."
            )
        os.environ["NPROC"] = str(threads)  # XLA reads NPROC when it starts
    return threads


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    jax.config.update("jax_disable_jit", eager)


def synchronize(tensors, device):
    """Block until the device has computed these tensors."""
    jax.block_until_ready(tensors)


def versions():
    """Return the versions of JAX, jaxlib and Flax (if installed), and the GPU's name."""
    versions = {"jax": jax.__version__, "jaxlib": version("jaxlib")}
    with contextlib.suppress(PackageNotFoundError):
        versions["flax"] = version("flax")
    if jax.default_backend() == "gpu":
        versions["cuda"] = jax.devices()[0].client.platform_version.splitlines()[-1]
        versions["gpu"] = jax.devices()[0].device_kind
    return versions


def tensor(array, device):
    """Convert a NumPy array to a tensor of the same dtype on `device`."""
    if array.dtype == np.float64:
        # Without this process-wide setting, JAX converts float64 to float32. Set it only when
        # needed, so that importing this module does not change it.
        jax.config.update("jax_enable_x64", True)
    return jax.device_put(array, get_device(device))


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return np.asarray(tensor)


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def get_device(device):
    """Return the first JAX device of the given kind: "cpu" or "cuda"."""
    return jax.devices(device)[0]


def jit(function):
    """Compile a function of tensors, whose `options` and `gradients` are constants."""
    names = inspect.signature(function).parameters
    return jax.jit(function, static_argnames=[n for n in ("options", "gradients") if n in names])


def _flatten_update(update):
    """Split an update into the numbers that vary, which are arguments, and constants."""
    return [getattr(update, name) for name in _RATES], update._replace(**dict.fromkeys(_RATES))


def _unflatten_update(constants, rates):
    return constants._replace(**dict(zip(_RATES, rates)))


def _has_started():
    """Return whether JAX has started; from then on, its number of devices is fixed."""
    # The default number of devices is -1, so adding 2 gives a valid number.
    num_devices = jax.config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", num_devices + 2)
        jax.config.update("jax_num_cpu_devices", num_devices)
    except RuntimeError:
        return True
    return False


# A compiled function takes the rates as arguments and the rest of an update as constants. A copy of
# this package may already have registered the class.
with contextlib.suppress(ValueError):
    jax.tree_util.register_pytree_node(UpdateRule, _flatten_update, _unflatten_update)
