"""What MXNet computes on: CPU or CUDA, and its threads; and what MXNet needs in order to start."""

import ctypes
import functools
import os
import re
import warnings

import numpy

from rnn_scratch.contract import VERBOSE

if "bool" not in vars(numpy):
    # NumPy 1.24 removed this name, which MXNet 1.9.1 uses when it is imported and when it indexes.
    # (NumPy 2 has it again, but MXNet does not run with NumPy 2.)
    numpy.bool = bool

# After a product OpenMP's threads wait for the next one in a busy loop. On a machine that has other
# work, that lasts longer than the product (measured: two threads 1.5 to 50 times slower). This
# number keeps the loop short; OpenMP itself uses it where there are more threads than cores.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# MXNet's own kernels, for additions and the like, lose more by being shared out among threads than
# they gain (measured with two threads: 35 ms for a minibatch instead of 15). MXNet shares them out
# if it finds OMP_NUM_THREADS, so that is hidden while MXNet is imported. The number of threads for
# matrix products is a different one: see set_threads.
os.environ.setdefault("MXNET_OMP_MAX_THREADS", "1")
_OMP_NUM_THREADS = os.environ.pop("OMP_NUM_THREADS", None)

with warnings.catch_warnings():
    if not os.environ.get(VERBOSE):
        warnings.simplefilter("ignore")  # MXNet itself uses many functions that are deprecated now
    import mxnet
    from mxnet import np, npx

    from . import graphs
    from .graphs import graph
    from .products import product, transpose

if _OMP_NUM_THREADS is not None:
    os.environ["OMP_NUM_THREADS"] = _OMP_NUM_THREADS

# NumPy's shapes and arrays instead of MXNet's older ones. MXNet would log a message about it, and
# to do so install a handler in the root logger; these flags mark the message as logged.
mxnet.util._set_np_shape_logged = mxnet.util._set_np_array_logged = True
npx.set_np()


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    return ["cuda", "cpu"] if mxnet.context.num_gpus() else ["cpu"]


def set_threads(threads):
    """Compute with this number of threads (None: the framework's own choice), and return it."""
    # This is a setting of each thread, and the one that is to compute may not be the one that has
    # imported MXNet.
    npx.set_np()
    library = mxnet.base._LIB
    if not mxnet.runtime.Features().is_enabled("OPENMP"):
        return 1
    # MXNet's own choice is half of the processors, because the other half may be hyperthreads.
    default = re.match(r"\d+", _OMP_NUM_THREADS or "")  # the first number of a list such as 4,2
    number = threads or int(default[0] if default else max(1, (os.cpu_count() or 1) // 2))
    numbers = []

    def in_engine(*_):
        library.omp_set_num_threads(number)
        numbers.append(library.omp_get_max_threads())

    # OpenMP keeps this number separately for each thread that calls it, and MXNet computes in a
    # thread of its engine. Setting it from here, with threadpoolctl for instance, would change
    # nothing (measured). So the engine executes this function as if it were an operation. Both of
    # MXNet's libraries for matrix products, OpenBLAS and oneDNN, use OpenMP's number.
    operation = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(in_engine)
    cpu = (ctypes.c_int * 2)(mxnet.cpu().device_typeid, 0)
    mxnet.base.check_call(
        library.MXEnginePushSyncND(operation, None, None, cpu, None, 0, None, 0, None, 0, None)
    )
    npx.waitall()
    return numbers[0]


def set_eager(eager):
    """Run functions uncompiled, to debug them, or compiled; called before a model is built."""
    graphs.eager = eager


def set_tf32(allowed):
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23."""
    os.environ["MXNET_CUDA_TENSOR_OP_MATH_ALLOW_CONVERSION"] = str(int(allowed))


set_tf32(False)  # TF32 is faster, but its numbers would not be those of the other backends


def synchronize(tensors, device):
    """Return when these tensors are computed, and all other work of the device."""
    npx.waitall()


def environment():
    """The versions of MXNet and of the libraries that it multiplies matrices with, and the GPU."""
    features = mxnet.runtime.Features()
    libraries = [name for name in features if name.startswith("BLAS") or name in ("MKLDNN", "CUDA")]
    versions = {
        "mxnet": mxnet.__version__,
        "blas": ", ".join(sorted(name for name in libraries if features.is_enabled(name))),
    }
    if mxnet.context.num_gpus():
        versions["gpu"] = str(mxnet.gpu(0))
    return versions


def memory(device):
    """The most bytes that tensors have taken on the device so far; None where it is unknown."""
    if device != "cuda":
        return None
    free, total = mxnet.context.gpu_memory_info()  # MXNet keeps all memory that it has ever taken
    return total - free


def multiply(h, matrices):
    """The product of h (N, K) with these matrices, one after another: a bound on training speed."""
    distinct = {id(W): W for W in matrices}
    order = tuple(list(distinct).index(id(W)) for W in matrices)
    return _multiply(h, *distinct.values(), order)


@graph  # outside of a graph `product` takes three times as long
def _multiply(h, *matrices_and_order):
    *matrices, order = matrices_and_order
    transposes = [transpose(W) for W in matrices]
    for i in order:
        h = product(h, transposes[i])
    return h


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    return np.array(array, dtype=array.dtype, ctx=context(device))


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return tensor.asnumpy()


def to_arrays(params):
    """Parameters, or their gradients, copied to NumPy arrays."""
    return {name: array(param) for name, param in params.items()}  # asnumpy() makes a copy


def number(value, like):
    """A number as an array in float64: of Python's MXNet reads the text, and may be one bit off."""
    if like.dtype == "float32":
        return value
    return np.array(value, dtype=like.dtype, ctx=like.ctx)


@functools.cache
def numbers(how, options):
    """`how` with its numbers as arrays in float64, where each bit counts, for the same reason."""
    if options.dtype == "float32":
        return how
    names = ("weight_decay", "beta1", "beta2", "epsilon")
    where = {"dtype": options.dtype, "ctx": context(options.device)}
    return how._replace(**{name: np.array(getattr(how, name), **where) for name in names})


def context(device):
    """MXNet's name for the device."""
    return mxnet.gpu(0) if device == "cuda" else mxnet.cpu()
