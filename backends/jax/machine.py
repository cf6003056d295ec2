"""JAX's devices (CPU or CUDA), threads, compiler and conversions.

Importing this module makes JAX allocate GPU memory on demand, and hides the warnings that it logs
at its start, unless the environment variable of the contract's VERBOSE is set.
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

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # not most of the GPU
if not os.environ.get(VERBOSE):
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)

_owner_pid = os.getpid()  # the process that computes


def devices(dtype):
    """Return the devices that support this dtype, best first."""
    return ["cuda", "cpu"] if jax.default_backend() == "gpu" else ["cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    global _owner_pid
    if not _has_started():
        _owner_pid = os.getpid()
    elif os.getpid() != _owner_pid:
        raise RNNScratchError(
            "This process was forked from one that had already used JAX. A fork does not "
            "copy its threads, so this process would wait for them forever.\n"
            'Start processes with multiprocessing.get_context("spawn"), or use JAX in this '
            "process only."
        )
    current = num_threads()
    number = threads or current
    if number != current:
        if _has_started():
            raise RNNScratchError(
                f"Cannot set the number of threads to {number}: JAX fixed it at {current} "
                "when it first computed in this process.\n"
                f"Keep {current} threads, or set {number} at the start of a new process."
            )
        os.environ["NPROC"] = str(number)  # read by XLA when it starts
    return number


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    jax.config.update("jax_disable_jit", eager)


def set_tf32(allowed):
    """Allow or forbid TF32 matrix products on NVIDIA GPUs (10 of 23 mantissa bits)."""
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if allowed else "float32")


set_tf32(False)  # TF32 is faster, but its results would differ from the other backends'


def synchronize(tensors, device):
    """Block until these tensors, and all other work on the device, are computed."""
    jax.block_until_ready(tensors)


def environment():
    """Return the versions of JAX, jaxlib and Flax (if installed), and the GPU's name."""
    versions = {"jax": jax.__version__, "jaxlib": version("jaxlib")}
    with contextlib.suppress(PackageNotFoundError):
        versions["flax"] = version("flax")
    if jax.default_backend() == "gpu":
        versions["cuda"] = jax.devices()[0].client.platform_version.splitlines()[-1]
        versions["gpu"] = jax.devices()[0].device_kind
    return versions


def peak_memory(device):
    """Return the peak memory of tensors on the device in bytes, or None if unknown."""
    return device_of(device).memory_stats()["peak_bytes_in_use"] if device == "cuda" else None


def chain_matmul(h, matrices):
    """Multiply h (N, K) by the matrices in turn; an upper bound on training speed."""
    distinct = {id(W): W for W in matrices}
    order = tuple(list(distinct).index(id(W)) for W in matrices)
    return _chain_matmul(h, list(distinct.values()), order)


@functools.partial(jax.jit, static_argnames="order")
def _chain_matmul(h, matrices, order):
    for i in order:
        h = h @ matrices[i]
    return h


def tensor(array, device):
    """Convert an array to a tensor of the same dtype on the device."""
    if array.dtype == np.float64:
        # Without this process-wide setting, JAX truncates float64 to float32. It is enabled when
        # first needed rather than on import, so importing the backend does not change it.
        jax.config.update("jax_enable_x64", True)
    return jax.device_put(array, device_of(device))


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return np.asarray(tensor)


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def jit_update(train_minibatch, wrapped=None):
    """Compile `train_minibatch` with jax.jit; `wrapped`, if given, wraps the compiled function.

    A jitted function must be pure: JAX traces it once, with tracers instead of arrays, and records
    the operations. Any other side effect happens only during tracing. So parameters and slots are
    arguments of the function, and their new values are among its results.
    """

    def make_program(model):  # takes a weak reference: a program must not keep its model alive
        @functools.partial(jax.jit, static_argnames="rule")
        def pure(replicated, sharded, rule):
            (params, slots, numbers), (batch, state) = replicated, sharded
            # The optimizer replaces the tracers in these dicts.
            traced = dataclasses.replace(model(), params=params, slots=slots)
            result = train_minibatch(traced, batch, state, rule._replace(**numbers))
            return result, (traced.params, traced.slots)

        return wrapped(pure, model().options.device) if wrapped else pure

    # JAX caches compiled programs as long as their function exists. If all models shared one
    # function, the cache would only grow; after a hundred models, Linux would refuse more mappings.
    programs = weakref.WeakKeyDictionary()

    @functools.wraps(train_minibatch)
    def train(model, batch, state, update):
        if model not in programs:
            programs[model] = make_program(weakref.ref(model))
        # The rule is part of the program; numbers that change are its arguments.
        rule, numbers = update.split_static()
        replicated, sharded = (model.params, model.slots, numbers), (batch, state)
        result, (params, slots) = programs[model](replicated, sharded, rule)
        model.params.update(params)
        model.slots.update(slots)
        return result

    return train


def device_of(device, rank=None):
    """Return a worker's device (default: this worker's); workers on one machine share devices."""
    rank = jax.process_index(device) if rank is None else rank
    devices = jax.local_devices(rank, device)
    return devices[rank % len(devices)]


def _has_started():
    # JAX refuses to change the number of devices after it has started.
    number = jax.config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", number + 2)
        jax.config.update("jax_num_cpu_devices", number)
    except RuntimeError:
        return True
    return False
