"""MXNet's devices (CPU or CUDA), threads and array conversion.

Importing this module has side effects without which MXNet 1.9.1 would not start or would be slow:
it defines numpy.bool, sets GOMP_SPINCOUNT and MXNET_OMP_MAX_THREADS unless they are already set,
selects OpenBLAS kernels and hides OMP_NUM_THREADS while MXNet is imported, and calls npx.set_np. It
also disables float16 products.
"""

import ctypes
import os
import re
import warnings

import numpy

from rnn_scratch.contract import VERBOSE

if "bool" not in vars(numpy):
    # NumPy 1.24 removed this name, which MXNet 1.9.1 uses on import and for indexing. (NumPy 2
    # restored it, but MXNet does not support NumPy 2.)
    numpy.bool = bool

# OpenMP threads spin while they wait for work. On a busy machine, spinning costs more time than the
# matrix products themselves (measured: 1.5 to 50 times slower with two threads). This count is
# libgomp's default if there are more threads than cores and OMP_WAIT_POLICY is ACTIVE.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# MXNet's elementwise kernels are slower with several threads (measured: 35 ms per minibatch with
# two threads, 15 ms with one). MXNet uses several threads if OMP_NUM_THREADS is set, so hide this
# variable during the import. `set_threads` sets the number of threads for matrix products.
os.environ.setdefault("MXNET_OMP_MAX_THREADS", "1")
_OMP_NUM_THREADS = os.environ.pop("OMP_NUM_THREADS", None)

# MXNet bundles OpenBLAS from 2021, which falls back to SSE on newer processors that it does not
# recognize. With AVX2, training is 1.4 to 1.8 times as fast (measured on a 2023 Xeon).
_selects_kernels = (
    "OPENBLAS_CORETYPE" not in os.environ and numpy.core._multiarray_umath.__cpu_features__["AVX2"]
)
if _selects_kernels:
    os.environ["OPENBLAS_CORETYPE"] = "HASWELL"

with warnings.catch_warnings():
    if not os.environ.get(VERBOSE):
        warnings.simplefilter("ignore")  # MXNet uses many deprecated functions
    import mxnet
    from mxnet import np, npx

    from . import graphs

if _OMP_NUM_THREADS is not None:
    os.environ["OMP_NUM_THREADS"] = _OMP_NUM_THREADS
if _selects_kernels:  # other libraries and child processes select their own kernels
    del os.environ["OPENBLAS_CORETYPE"]

# Use arrays with NumPy semantics instead of legacy arrays. The two flags suppress MXNet's
# messages about these arrays, because logging them would install a handler on the root logger.
mxnet.util._set_np_shape_logged = mxnet.util._set_np_array_logged = True
npx.set_np()

# Disable float16 products on NVIDIA GPUs, because their results would differ from those of other
# backends.
os.environ["MXNET_CUDA_TENSOR_OP_MATH_ALLOW_CONVERSION"] = "0"


def devices(dtype):
    """Return the available devices that support `dtype`, in order of preference."""
    return ["cuda", "cpu"] if mxnet.context.num_gpus() else ["cpu"]


def set_threads(threads):
    """Set the number of threads (None: the framework's default); return the number in use."""
    # This setting is thread-local, and another thread may have imported MXNet.
    npx.set_np()
    library = mxnet.base._LIB
    if not mxnet.runtime.Features().is_enabled("OPENMP"):
        return 1
    # By default, MXNet uses half the logical CPUs, because the other half may be hyperthreads.
    default = re.match(r"\d+", _OMP_NUM_THREADS or "")  # first number in a list such as 4,2
    threads = threads or int(default[0] if default else max(1, (os.cpu_count() or 1) // 2))
    results = []

    def set_in_engine(*_):
        library.omp_set_num_threads(threads)
        results.append(library.omp_get_max_threads())

    # OpenMP stores the number of threads per calling thread, and MXNet computes in an engine
    # thread. Setting the number in this thread has no effect (measured), so the engine executes
    # `set_in_engine` as an operation. OpenBLAS and oneDNN use OpenMP's number of threads.
    operation = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(set_in_engine)
    cpu = (ctypes.c_int * 2)(mxnet.cpu().device_typeid, 0)
    mxnet.base.check_call(
        library.MXEnginePushSyncND(operation, None, None, cpu, None, 0, None, 0, None, 0, None)
    )
    npx.waitall()
    return results[0]


def set_eager(eager):
    """Disable (True) or enable (False) compilation; call before building a model."""
    graphs.is_eager = eager


def synchronize(tensors, device):
    """Block until the device has computed these tensors."""
    npx.waitall()


def versions():
    """Return MXNet's version, its matrix libraries, OpenBLAS's kernels, and the GPU's index."""
    features = mxnet.runtime.Features()
    libraries = [name for name in features if name.startswith("BLAS") or name in ("MKLDNN", "CUDA")]
    versions = {
        "mxnet": mxnet.__version__,
        "blas": ", ".join(sorted(name for name in libraries if features.is_enabled(name))),
    }
    if hasattr(mxnet.base._LIB, "openblas_get_corename"):
        mxnet.base._LIB.openblas_get_corename.restype = ctypes.c_char_p
        versions["kernels"] = mxnet.base._LIB.openblas_get_corename().decode()
    if mxnet.context.num_gpus():
        versions["gpu"] = str(mxnet.gpu(0))
    return versions


def tensor(array, device):
    """Convert a NumPy array to a tensor of the same dtype on `device`."""
    return np.array(array, dtype=array.dtype, ctx=context(device))


def array(tensor):
    """Convert a tensor to a NumPy array of the same dtype."""
    return tensor.asnumpy()


def to_arrays(params):
    """Copy parameters or gradients to NumPy arrays."""
    return {name: array(param) for name, param in params.items()}  # asnumpy() makes a copy


def update_as_arrays(update, param):
    """Convert the numbers in `update` to arrays, because MXNet would pass plain numbers as text.

    The arrays have the dtype and device of `param`.
    """
    factory_kwargs = {"dtype": param.dtype, "ctx": param.ctx}
    arrays = (v if isinstance(v, str) else np.array(v, **factory_kwargs) for v in update)
    return type(update)(*arrays)


def context(device):
    """Return the MXNet context for `device`."""
    return mxnet.gpu(0) if device == "cuda" else mxnet.cpu()
