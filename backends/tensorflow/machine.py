"""TensorFlow's devices (CPU or CUDA), threads, compilation and array conversion.

Importing this module disables TF32 and makes TensorFlow allocate GPU memory on demand. It also
hides TensorFlow's messages on stderr and in its log unless the environment variable named by
`contract.VERBOSE` is set.
"""

import contextlib
import functools
import inspect
import os
import sys
from importlib.metadata import version

import numpy as np

from rnn_scratch.contract import VERBOSE, RNNScratchError

_IS_QUIET = not os.environ.get(VERBOSE)


@contextlib.contextmanager
def _silence():
    """Redirect stderr's file descriptor, because C++ code writes some messages at any log level."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # don't preallocate GPU memory
if _IS_QUIET:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # override JAX, which sets a lower level
with _silence() if _IS_QUIET and sys.stderr else contextlib.nullcontext():
    import tensorflow as tf

    from .products import num_threads
if _IS_QUIET:
    tf.get_logger().setLevel("ERROR")

# Disable TF32 on NVIDIA GPUs: with 10 mantissa bits instead of 23, its results would differ from
# those of other backends.
tf.config.experimental.enable_tensor_float_32_execution(False)

_CONSTANTS = "options", "gradients", "update"  # arguments that are constants in a graph
_RATES = "lr", "c_m", "c_v"  # the exceptions: numbers in `update` that change between updates
_owner_pid = os.getpid()  # process that computes with TensorFlow


def devices(dtype):
    """Return the available devices that support `dtype`, in order of preference."""
    gpus = tf.test.is_built_with_gpu_support() and tf.config.list_physical_devices("GPU")
    return ["cuda", "cpu"] if gpus else ["cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    global _owner_pid
    if not _has_computed():
        _owner_pid = os.getpid()
    elif os.getpid() != _owner_pid:
        raise RNNScratchError(
            "This process was forked from a process that had already used TensorFlow. A fork does "
            "not copy threads, so this process would wait for them forever.\n"
            'Start processes with multiprocessing.get_context("spawn"), or use TensorFlow only in '
            "this process."
        )
    current_threads = num_threads()
    threads = threads or current_threads
    # Prefer inter-op to intra-op parallelism: a product (B, H) @ (H, H) gains little from a second
    # thread, but products with column blocks (`products.split`) are independent.
    try:
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, threads // 2))
    except RuntimeError:
        if threads != current_threads:
            raise RNNScratchError(
                f"Cannot set the number of threads to {threads}: TensorFlow fixed it at "
                f"{current_threads} when it first computed in this process.\n"
                f"Keep {current_threads} threads, or set {threads} at the start of a new process."
            ) from None
    return threads


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    tf.config.run_functions_eagerly(eager)


def synchronize(tensors, device):
    """Block until the device has computed these tensors."""
    if device == "cuda":  # TensorFlow computes synchronously on a CPU
        tf.test.experimental.sync_devices()


def versions():
    """Return the versions of TensorFlow, Keras and CUDA, and the GPU's name."""
    versions = {"tensorflow": tf.__version__, "keras": version("keras")}
    for gpu in tf.config.list_physical_devices("GPU")[:1]:
        details = tf.config.experimental.get_device_details(gpu)
        versions["cuda"] = str(tf.sysconfig.get_build_info().get("cuda_version"))
        versions["gpu"] = details.get("device_name", "unknown")
    return versions


def tensor(array, device):
    """Convert a NumPy array to a tensor of the same dtype on `device`."""
    with device_scope(device):
        return tf.constant(array)


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return np.asarray(tf.convert_to_tensor(tensor))


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


@contextlib.contextmanager
def device_scope(device):
    """Return a context manager or decorator that makes TensorFlow compute on the device."""
    with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        yield


def run_on_model_device(function):
    """Decorate a function to compute on the device of its `model` or `options` argument."""
    names = list(inspect.signature(function).parameters)
    name = "model" if "model" in names else "options"
    position = names.index(name)

    # By default, TensorFlow computes on a GPU if there is one, even if the tensors are on the CPU.
    @functools.wraps(function)
    def run(*args, **kwargs):
        owner = kwargs[name] if name in kwargs else args[position]
        with device_scope(getattr(owner, "options", owner).device):
            return function(*args, **kwargs)

    return run


def compile_with(compiler):
    """Return a decorator that compiles a function with `compiler`, such as `tf.function`.

    The decorated function runs on the device of its `options` argument. All models with the same
    options and shapes share one graph, which updates the variables it is given.
    """

    def decorate(function):
        signature = inspect.signature(function)

        # Constants are part of the graph. As arguments, TensorFlow would inspect every number in
        # them on every call, which takes longer than a small network.
        @functools.cache
        def make_graph(**constants):
            def compute(tensors, rates):
                arguments = constants | tensors
                if rates:
                    arguments["update"] = arguments["update"]._replace(**rates)
                results = function(**arguments)
                # A graph cannot return variables, so `run` returns the caller's.
                variables = tensors.get("params"), tensors.get("slots")
                return tuple(None if any(x is v for v in variables) else x for x in results)

            return compiler(compute)

        @functools.wraps(function)
        def run(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            tensors, rates = bound.arguments, {}
            constants = {name: tensors.pop(name) for name in _CONSTANTS if name in tensors}
            options, update = constants["options"], constants.get("update")
            if update:  # values that change between updates are tensors
                rates = {name: tf.constant(getattr(update, name), options.dtype) for name in _RATES}
                constants["update"] = update._replace(**dict.fromkeys(_RATES, 1.0))
            with device_scope(options.device):
                results = make_graph(**constants)(tensors, rates)
            variables = iter((tensors.get("params"), tensors.get("slots")))
            return tuple(next(variables) if x is None else x for x in results)

        return run

    return decorate


def jit(function):
    """Compile a function of tensors, whose `options` and `gradients` are constants."""
    return compile_with(tf.function)(function)


def _has_computed():
    """Return whether TensorFlow has run an operation; from then on, its thread count is fixed."""
    threading = tf.config.threading
    count = threading.get_inter_op_parallelism_threads()
    try:
        threading.set_inter_op_parallelism_threads(count + 1)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:
        return True
    return False
