"""What TensorFlow computes on: CPU or CUDA, its threads, and what it needs to start quietly.

What it writes on its way, to stderr and to its log, is held back unless the environment variable
RNN_SCRATCH_VERBOSE is set.
"""

import contextlib
import functools
import inspect
import os
import sys
from importlib.metadata import version

import numpy as np

from rnn_scratch.contract import RNNScratchError

_QUIET = not os.environ.get("RNN_SCRATCH_VERBOSE")


@contextlib.contextmanager
def _silence():
    # Of the process, not of Python: some lines come from C++, before it minds any log level.
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


os.environ["KERAS_BACKEND"] = "tensorflow"  # Keras 3 may be set to another one by its user
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or it takes a GPU's whole memory
if _QUIET:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _silence() if _QUIET and sys.stderr else contextlib.nullcontext():
    import tensorflow as tf
if _QUIET:
    tf.get_logger().setLevel("ERROR")

# NVIDIA's TF32 keeps 10 bits of a float32's 23: fast, and not the numbers of the other backends.
tf.config.experimental.enable_tensor_float_32_execution(False)

_TENSOR = object()  # stands for a tensor where only the other arguments count


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    found = tf.test.is_built_with_gpu_support() and tf.config.list_physical_devices("GPU")
    return ["cuda", "cpu"] if found else ["cpu"]


def set_threads(threads):
    """Compute with so many threads from here on (None: its own choice), and say how many."""
    now = tf.config.threading.get_inter_op_parallelism_threads() or _num_threads()
    wanted = threads or now
    # So many operations at a time rather than so many threads for each: a product (B, H) @ (H, H)
    # gains little from a second thread, while the products by parts of a matrix (`shared`) do not
    # wait for each other.
    try:
        tf.config.threading.set_inter_op_parallelism_threads(wanted)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, wanted // 2))
    except RuntimeError:
        if wanted != now:
            raise RNNScratchError(
                f"TensorFlow has begun to compute: the number of its threads is {now}, and cannot "
                f"become {wanted}.\nSet it before anything else, in a process of its own."
            ) from None
    return wanted


def set_eager(eager):
    """Run the same functions uncompiled, for stepping through them; before a model is made."""
    tf.config.run_functions_eagerly(eager)


def set_tf32(allowed):
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23."""
    tf.config.experimental.enable_tensor_float_32_execution(allowed)


def synchronize(device):
    """Return when all that was asked of the device is done."""
    if device == "cuda":
        tf.test.experimental.sync_devices()


def environment():
    """The versions of TensorFlow, Keras and CUDA, and the GPU's name."""
    found = {"tensorflow": tf.__version__, "keras": version("keras")}
    for gpu in tf.config.list_physical_devices("GPU")[:1]:
        found["cuda"] = str(tf.sysconfig.get_build_info().get("cuda_version"))
        found["gpu"] = tf.config.experimental.get_device_details(gpu).get("device_name", "unknown")
    return found


def memory(device):
    """The most bytes that tensors have taken on the device so far; None where it is not told."""
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if device == "cuda" else None


@tf.function
def multiply(h, W, times):
    """`times` products of h (N, H) and W (H, H), one after another: what limits training."""
    columns = shared(W, "cuda" if "GPU" in h.device else "cpu")
    for _ in range(times):
        h = product(h, columns)
    return h


def shared(W, device):
    """The matrix as blocks of its columns, one for each thread that computes on the device."""
    # TensorFlow gives a product (B, H) @ (H, H) to one thread. Products by parts of the matrix do
    # not wait for each other: at two threads they take little more than half the time.
    threads = tf.config.threading.get_inter_op_parallelism_threads() or _num_threads()
    number = 1 if device == "cuda" else max(1, min(threads, W.shape[1] // 128))
    return tf.split(W, [len(part) for part in np.array_split(range(W.shape[1]), number)], 1)


def product(h, columns):
    """h @ W, where `columns` are the blocks of W."""
    return tf.concat([h @ block for block in columns], 1) if len(columns) > 1 else h @ columns[0]


@tf.custom_gradient
def rows(table, tokens):
    """Rows of the table (V, H): tokens (...) to (..., H)."""

    # As tf.gather gives them. But of its gradient, one row for every token, TensorFlow sums those
    # of the same token in five times the time that it takes when they are put in order before.
    def backward(d_rows):
        labels, d_rows = tf.reshape(tokens, [-1]), tf.reshape(d_rows, (-1, table.shape[1]))
        order = tf.argsort(labels)
        labels = tf.gather(labels, order)
        return tf.sparse.segment_sum(d_rows, order, labels, num_segments=table.shape[0]), None

    return tf.gather(table, tokens), backward


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    with on(device):
        return tf.constant(array)


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return np.asarray(tf.convert_to_tensor(tensor))


def compiled(function):
    """The same function, by `tf.function`: TensorFlow traces it once per shape of its tensors.

    Each set of its other arguments has a `tf.function` of its own, which is called with tensors
    alone. Given all of them, it would look at them one by one at every call: a fifth of the time
    of a generated character (measured).
    """
    graphs = {}

    @functools.wraps(function)
    def graph(*arguments, **named):
        if named:
            arguments = inspect.signature(function).bind(*arguments, **named).args
        leaves = tf.nest.flatten(arguments)
        tensors = [leaf for leaf in leaves if _is_tensor(leaf)]
        others = tuple(_TENSOR if _is_tensor(leaf) else leaf for leaf in leaves)
        if others not in graphs:
            graphs[others] = _graph(function, tf.nest.pack_sequence_as(arguments, others))
        return graphs[others](*tensors)

    return graph


def _graph(function, others):
    # `function` of the tensors among its arguments, the others being these.
    @tf.function
    def of_tensors(*tensors):
        rest = iter(tensors)
        leaves = [next(rest) if leaf is _TENSOR else leaf for leaf in tf.nest.flatten(others)]
        return function(*tf.nest.pack_sequence_as(others, leaves))

    return of_tensors


def _is_tensor(leaf):
    return isinstance(leaf, (tf.Tensor, tf.Variable))


def on(device):
    """The context in which TensorFlow computes on the device."""
    return tf.device("/GPU:0" if device == "cuda" else "/CPU:0")


def on_its_device(function):
    """The function, with all that it computes on the device that its model is on."""

    # Left alone, TensorFlow computes on a GPU if it finds one, wherever the tensors are.
    @functools.wraps(function)
    def placed(model, *args, **kwargs):
        with on(model.options.device):
            return function(model, *args, **kwargs)

    return placed


def _num_threads():
    # What TensorFlow takes where nothing is set.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(os.environ.get("TF_NUM_INTEROP_THREADS") or cores)
