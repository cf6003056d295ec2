"""MXNet's devices (CPU or CUDA), threads and conversions.

Importing this module has side effects without which MXNet 1.9.1 does not start or computes slowly:
it defines numpy.bool, sets GOMP_SPINCOUNT and MXNET_OMP_MAX_THREADS unless they are set, hides
OMP_NUM_THREADS during the import, and calls npx.set_np.
"""

import ctypes
import functools
import os
import re
import warnings

import numpy

from rnn_scratch.contract import VERBOSE

if "bool" not in vars(numpy):
    # NumPy 1.24 removed this name, which MXNet 1.9.1 uses on import and when it indexes. (NumPy 2
    # has it again, but MXNet does not run with NumPy 2.)
    numpy.bool = bool

# Between products, OpenMP threads spin. On a busy machine, spinning takes longer than the products
# (measured: 1.5 to 50 times slower with two threads). This spin count is small; it is OpenMP's
# default if there are more threads than cores.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# MXNet's elementwise kernels are slower with several threads (measured with two: 35 ms per
# minibatch instead of 15). MXNet uses several if it finds OMP_NUM_THREADS, so hide it during the
# import. The number of threads for matrix products is separate: see set_threads.
os.environ.setdefault("MXNET_OMP_MAX_THREADS", "1")
_OMP_NUM_THREADS = os.environ.pop("OMP_NUM_THREADS", None)

with warnings.catch_warnings():
    if not os.environ.get(VERBOSE):
        warnings.simplefilter("ignore")  # MXNet uses many deprecated functions
    import mxnet
    from mxnet import np, npx

    from . import graphs
    from .graphs import graph
    from .products import product, transpose

if _OMP_NUM_THREADS is not None:
    os.environ["OMP_NUM_THREADS"] = _OMP_NUM_THREADS

# Use NumPy's shapes and arrays instead of legacy ones. MXNet would log a message about it, and
# install a handler in the root logger; these flags mark the message as logged.
mxnet.util._set_np_shape_logged = mxnet.util._set_np_array_logged = True
npx.set_np()


def devices(dtype):
    """Return the devices that support this dtype, best first."""
    return ["cuda", "cpu"] if mxnet.context.num_gpus() else ["cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    # This setting is local to a thread, and the calling thread may not have imported MXNet.
    npx.set_np()
    library = mxnet.base._LIB
    if not mxnet.runtime.Features().is_enabled("OPENMP"):
        return 1
    # By default, MXNet uses half of the processors, because the other half may be hyperthreads.
    default = re.match(r"\d+", _OMP_NUM_THREADS or "")  # the first number of a list such as 4,2
    number = threads or int(default[0] if default else max(1, (os.cpu_count() or 1) // 2))
    numbers = []

    def in_engine(*_):
        library.omp_set_num_threads(number)
        numbers.append(library.omp_get_max_threads())

    # OpenMP stores this number per calling thread, and MXNet computes in a thread of its engine.
    # Setting it from here, for example with threadpoolctl, has no effect (measured). So the engine
    # executes this function like an operation. OpenBLAS and oneDNN both use OpenMP's number.
    operation = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(in_engine)
    cpu = (ctypes.c_int * 2)(mxnet.cpu().device_typeid, 0)
    mxnet.base.check_call(
        library.MXEnginePushSyncND(operation, None, None, cpu, None, 0, None, 0, None, 0, None)
    )
    npx.waitall()
    return numbers[0]


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    graphs.eager = eager


def set_tf32(allowed):
    """Allow or forbid TF32 matrix products on NVIDIA GPUs (10 of 23 mantissa bits)."""
    os.environ["MXNET_CUDA_TENSOR_OP_MATH_ALLOW_CONVERSION"] = str(int(allowed))


set_tf32(False)  # TF32 is faster, but its results would differ from the other backends'


def synchronize(tensors, device):
    """Block until these tensors, and all other work on the device, are computed."""
    npx.waitall()


def environment():
    """Return the versions of MXNet and its matrix libraries, and the GPU's name."""
    features = mxnet.runtime.Features()
    libraries = [name for name in features if name.startswith("BLAS") or name in ("MKLDNN", "CUDA")]
    versions = {
        "mxnet": mxnet.__version__,
        "blas": ", ".join(sorted(name for name in libraries if features.is_enabled(name))),
    }
    if mxnet.context.num_gpus():
        versions["gpu"] = str(mxnet.gpu(0))
    return versions


def peak_memory(device):
    """Return the peak memory of tensors on the device in bytes, or None if unknown."""
    if device != "cuda":
        return None
    free, total = mxnet.context.gpu_memory_info()  # MXNet never returns memory
    return total - free


def chain_matmul(h, matrices):
    """Multiply h (N, K) by the matrices in turn; an upper bound on training speed."""
    distinct = {id(W): W for W in matrices}
    order = tuple(list(distinct).index(id(W)) for W in matrices)
    return _chain_matmul(h, *distinct.values(), order)


@graph  # outside a graph, `product` takes three times as long
def _chain_matmul(h, *matrices_and_order):
    *matrices, order = matrices_and_order
    transposes = [transpose(W) for W in matrices]
    for i in order:
        h = product(h, transposes[i])
    return h


def tensor(array, device):
    """Convert an array to a tensor of the same dtype on the device."""
    return np.array(array, dtype=array.dtype, ctx=context(device))


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return tensor.asnumpy()


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param) for name, param in params.items()}  # asnumpy() makes a copy


def update_as_arrays(update, options):
    """Convert the numbers of an update to arrays: MXNet parses Python numbers from rounded text."""
    factory_kwargs = {"dtype": options.dtype, "ctx": context(options.device)}
    return type(update)(
        *(
            value if isinstance(value, str) else np.array(value, **factory_kwargs)
            for value in update
        )
    )


def prefer_backward(gradients):
    """Return `gradients`, but with `model.backward` instead if the model has one."""

    @functools.wraps(gradients)
    def choose(model, batch, state):
        return model.backward(batch, state) if model.backward else gradients(model, batch, state)

    return choose


def context(device):
    """Return MXNet's context for a device."""
    return mxnet.gpu(0) if device == "cuda" else mxnet.cpu()
