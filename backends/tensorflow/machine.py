"""What TensorFlow computes on: CPU or CUDA, and its threads; and how it starts without messages.

The messages that it writes to stderr and to its log are shown only if the environment variable of
the contract's VERBOSE is set.
"""

import contextlib
import functools
import inspect
import os
import sys
from importlib.metadata import version

import numpy as np

from rnn_scratch.contract import VERBOSE, RNNScratchError

_QUIET = not os.environ.get(VERBOSE)


@contextlib.contextmanager
def _silence():
    # The stderr of the process, not Python's: C++ writes some messages whatever the log level is.
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


os.environ["KERAS_BACKEND"] = "tensorflow"  # the user of Keras 3 may have set another one
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or it takes a GPU's whole memory
if _QUIET:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # JAX in the same process has set another one
with _silence() if _QUIET and sys.stderr else contextlib.nullcontext():
    import tensorflow as tf

    from .products import num_threads, product, split
if _QUIET:
    tf.get_logger().setLevel("ERROR")


_process = os.getpid()  # the one that computes, if any does


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    gpus = tf.test.is_built_with_gpu_support() and tf.config.list_physical_devices("GPU")
    return ["cuda", "cpu"] if gpus else ["cpu"]


def set_threads(threads):
    """Compute with this number of threads (None: the framework's own choice), and return it."""
    global _process
    if not _has_computed():
        _process = os.getpid()
    elif os.getpid() != _process:
        raise RNNScratchError(
            "This process was forked from one that had already used TensorFlow. A fork does not "
            "copy its threads, so this process would wait for them forever.\n"
            'Start processes with multiprocessing.get_context("spawn"), or use TensorFlow in this '
            "process only."
        )
    now = num_threads()
    number = threads or now
    # The number of operations at a time rather than that of threads for each: a product
    # (B, H) @ (H, H) gains little from a second thread, while the products with blocks of a
    # matrix (`products.split`) do not wait for each other.
    try:
        tf.config.threading.set_inter_op_parallelism_threads(number)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, number // 2))
    except RuntimeError:
        if number != now:
            raise RNNScratchError(
                f"Cannot set the number of threads to {number}: TensorFlow fixed it at {now} "
                "when it first computed in this process.\n"
                f"Keep {now} threads, or set {number} at the start of a new process."
            ) from None
    return number


def set_eager(eager):
    """Run functions uncompiled, to debug them, or compiled; called before a model is built."""
    tf.config.run_functions_eagerly(eager)


def set_tf32(allowed):
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23."""
    tf.config.experimental.enable_tensor_float_32_execution(allowed)


set_tf32(False)  # TF32 is faster, but its numbers would not be those of the other backends


def synchronize(tensors, device):
    """Return when these tensors are computed, and all other work of the device."""
    if device == "cuda":  # on a CPU, TensorFlow returns when it is done
        tf.test.experimental.sync_devices()


def environment():
    """The versions of TensorFlow, Keras and CUDA, and the GPU's name."""
    versions = {"tensorflow": tf.__version__, "keras": version("keras")}
    for gpu in tf.config.list_physical_devices("GPU")[:1]:
        details = tf.config.experimental.get_device_details(gpu)
        versions["cuda"] = str(tf.sysconfig.get_build_info().get("cuda_version"))
        versions["gpu"] = details.get("device_name", "unknown")
    return versions


def memory(device):
    """The most bytes that tensors have taken on the device so far; None where it is unknown."""
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if device == "cuda" else None


def multiply(h, matrices):
    """The product of h (N, K) with these matrices, one after another: a bound on training speed."""
    distinct = {id(W): W for W in matrices}
    order = tuple(list(distinct).index(id(W)) for W in matrices)
    # Otherwise TensorFlow computes on a GPU if there is one. In a graph h.device is not known.
    with tf.device(h.device):
        device = "cuda" if "GPU" in h.device else "cpu"
        return _multiply(order, device)(h, list(distinct.values()))


@functools.cache  # TensorFlow would look at every number of the order at every call
def _multiply(order, device):
    @tf.function
    def graph(h, matrices):
        blocks = [split(W, device) for W in matrices]
        for i in order:
            h = product(h, blocks[i])
        return h

    return graph


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    with on(device):
        return tf.constant(array)


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return np.asarray(tf.convert_to_tensor(tensor))


def to_arrays(params):
    """Parameters, or their gradients, copied to NumPy arrays."""
    return {name: array(param).copy() for name, param in params.items()}


def _has_computed():
    # Then TensorFlow refuses another number of threads.
    threading = tf.config.threading
    number = threading.get_inter_op_parallelism_threads()
    try:
        threading.set_inter_op_parallelism_threads(number + 1)
        threading.set_inter_op_parallelism_threads(number)
    except RuntimeError:
        return True
    return False


@contextlib.contextmanager
def on(device):
    """The context, or the decorator, with which TensorFlow computes on the device."""
    with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        yield


def on_its_device(function):
    """The function, with all that it computes on the device of its model, or of its options."""
    names = list(inspect.signature(function).parameters)
    name = "model" if "model" in names else "options"
    place = names.index(name)

    # Otherwise TensorFlow computes on a GPU if there is one, wherever the tensors are.
    @functools.wraps(function)
    def on_device(*args, **kwargs):
        owner = kwargs[name] if name in kwargs else args[place]
        with on(getattr(owner, "options", owner).device):
            return function(*args, **kwargs)

    return on_device
