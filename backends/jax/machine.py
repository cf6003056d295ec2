"""What JAX computes on: CPU or CUDA, its threads and its compiler; and how it starts silently.

The warnings that it logs when it starts are shown only if the environment variable of the
contract's VERBOSE is set.
"""

import dataclasses
import functools
import logging
import os
import weakref
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

from rnn_scratch.contract import VERBOSE, RNNScratchError

from .products import num_threads

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or it takes most of a GPU
if not os.environ.get(VERBOSE):
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)

_process = os.getpid()  # the one that computes, if any does


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    return ["cuda", "cpu"] if jax.default_backend() == "gpu" else ["cpu"]


def set_threads(threads):
    """Compute with this number of threads (None: the framework's own choice), and return it."""
    global _process
    if not _has_started():
        _process = os.getpid()
    elif os.getpid() != _process:
        raise RNNScratchError(
            "This process was forked from one that had already used JAX. A fork does not "
            "copy its threads, so this process would wait for them forever.\n"
            'Start processes with multiprocessing.get_context("spawn"), or use JAX in this '
            "process only."
        )
    now = num_threads()
    number = threads or now
    if number != now:
        if _has_started():
            raise RNNScratchError(
                f"Cannot set the number of threads to {number}: JAX fixed it at {now} "
                "when it first computed in this process.\n"
                f"Keep {now} threads, or set {number} at the start of a new process."
            )
        os.environ["NPROC"] = str(number)  # where XLA looks for it when it starts
    return number


def set_eager(eager):
    """Run functions uncompiled, to debug them, or compiled; called before a model is built."""
    jax.config.update("jax_disable_jit", eager)


def set_tf32(allowed):
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23."""
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if allowed else "float32")


set_tf32(False)  # TF32 is faster, but its numbers would not be those of the other backends


def synchronize(tensors, device):
    """Return when these tensors are computed, and all other work of the device."""
    jax.block_until_ready(tensors)


def environment():
    """The versions of JAX, its library and Flax, and the GPU's name."""
    versions = {"jax": jax.__version__, "jaxlib": version("jaxlib"), "flax": version("flax")}
    if jax.default_backend() == "gpu":
        versions["cuda"] = jax.devices()[0].client.platform_version.splitlines()[-1]
        versions["gpu"] = jax.devices()[0].device_kind
    return versions


def memory(device):
    """The most bytes that tensors have taken on the device so far; None where it is unknown."""
    return device_of(device).memory_stats()["peak_bytes_in_use"] if device == "cuda" else None


def multiply(h, matrices):
    """The product of h (N, K) with these matrices, one after another: a bound on training speed."""
    distinct = {id(W): W for W in matrices}
    order = tuple(list(distinct).index(id(W)) for W in matrices)
    return _multiply(h, list(distinct.values()), order)


@functools.partial(jax.jit, static_argnames="order")
def _multiply(h, matrices, order):
    for i in order:
        h = h @ matrices[i]
    return h


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    if array.dtype == np.float64:
        # Without this setting of the whole process, JAX would make it a float32. So it is switched
        # on here, by the first who needs it, and not for everyone who imports this file.
        jax.config.update("jax_enable_x64", True)
    return jax.device_put(array, device_of(device))


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return np.asarray(tensor)


def to_arrays(params):
    """Parameters, or their gradients, copied to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def compiled(train_minibatch, wrapped=None):
    """The function `train_minibatch`, compiled by jax.jit and perhaps `wrapped` by another one.

    What is compiled has to be a pure function: Python executes it once, with tracers instead of
    arrays, and JAX records the operations; whatever else it does, it does only then. So the
    parameters and the optimizer's slots go in as arguments, and the new ones come out as results.
    """

    def program_for(model):  # a weak reference: a program does not keep its model alive
        @functools.partial(jax.jit, static_argnames="how")
        def pure(same, own, how):
            (params, slots, rates), (batch, state) = same, own
            # In it an optimizer replaces tracers.
            traced = dataclasses.replace(model(), params=params, slots=slots)
            result = train_minibatch(traced, batch._replace(rates=rates), state, how)
            return result, (traced.params, traced.slots)

        return wrapped(pure, model().options.device) if wrapped else pure

    # JAX keeps the programs that it compiled as long as their function exists. If all models shared
    # one, no program would ever go, and after a hundred models Linux would map no more memory.
    programs = weakref.WeakKeyDictionary()

    @functools.wraps(train_minibatch)
    def train(model, batch, state, how):
        if model not in programs:
            programs[model] = program_for(weakref.ref(model))
        same, own = (model.params, model.slots, batch.rates), (batch._replace(rates=None), state)
        result, (params, slots) = programs[model](same, own, how)
        model.params.update(params)
        model.slots.update(slots)
        return result

    return train


def apart(product):
    """A product that the compiler does not fuse with the sum it is part of.

    Fused, the two are rounded once and not twice, and the sum is not that of the other backends.
    """
    return jnp.where(product == product, product, jnp.nan)


def device_of(device, rank=None):
    """The device of this worker, or of another one: workers on a machine share its devices out."""
    rank = jax.process_index(device) if rank is None else rank
    devices = jax.local_devices(rank, device)
    return devices[rank % len(devices)]


def _has_started():
    # Then JAX refuses another number of devices, as it would one of threads if it could be asked.
    number = jax.config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", number + 2)
        jax.config.update("jax_num_cpu_devices", number)
    except RuntimeError:
        return True
    return False
