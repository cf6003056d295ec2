"""JAX's devices (CPU or CUDA), threads, compilation and array conversion.

Importing this module disables TF32 and makes JAX allocate GPU memory on demand. It also hides JAX's
startup warnings unless the environment variable named by `contract.VERBOSE` is set.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import weakref
from importlib.metadata import PackageNotFoundError, version

import jax
import numpy as np

from rnn_scratch.contract import VERBOSE, RNNScratchError

from .products import num_threads

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # don't preallocate GPU memory
if not os.environ.get(VERBOSE):
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)

# Disable TF32 on NVIDIA GPUs: with 10 mantissa bits instead of 23, its results would differ from
# those of other backends.
jax.config.update("jax_default_matmul_precision", "float32")

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


def compile_update(jit):
    """Return a decorator that uses `jit` to compile a function of a model, tensors and an update.

    A jitted function must be pure: JAX traces it once, with tracers instead of arrays, and records
    the operations. Side effects happen only during tracing. Therefore, parameters and slots are
    passed to the jitted function, which returns their new values.
    """

    def decorate(function):
        def make_program(model):  # takes a weak reference: a program must not keep its model alive
            @functools.partial(jit, static_argnames="constants")
            def program(params, slots, scalars, batch, state, constants):
                # JAX sorts keys; restore the model's order, in which `clip` adds the gradients.
                params = {name: params[name] for name in model().params}
                # The optimizer replaces the tracers in the dicts `params` and `slots`.
                traced_model = dataclasses.replace(model(), params=params, slots=slots)
                result = function(traced_model, batch, state, constants._replace(**scalars))
                return result, traced_model.params, traced_model.slots

            return program

        # JAX caches compiled programs as long as their function exists. If all models shared one
        # function, the cache would grow until Linux refused to map more memory (~100 models).
        programs = weakref.WeakKeyDictionary()

        @functools.wraps(function)
        def update_model(model, batch, state, update):
            if model not in programs:
                programs[model] = make_program(weakref.ref(model))
            # Constants are part of the program; values that change between updates are arguments.
            constants, scalars = update.split_static()
            arguments = model.params, model.slots, scalars, batch, state
            result, params, slots = programs[model](*arguments, constants=constants)
            model.params.update(params)
            for slot, tensors in slots.items():  # compiled functions sort dicts by name
                model.slots[slot].update(tensors)
            return result

        return update_model

    return decorate


jit_update = compile_update(jax.jit)


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
