"""What MXNet computes on: CPU or CUDA, its threads, its graphs; and what it needs to start."""

import ctypes
import functools
import os
import warnings

import numpy

# MXNet 1.9.1 still asks for numpy.bool, which NumPy 1.24 removed: when it is imported, and later
# when it indexes, so the name stays. (NumPy 2 has it again, but MXNet does not run with that.)
vars(numpy).setdefault("bool", bool)

# After a product OpenMP's threads wait for the next one, spinning: on a machine that is busy with
# other things, for longer than the product took (measured: two threads 1.5 to 50 times slower).
# So they spin for a moment only, as they do by themselves where they know that cores are short.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# MXNet's own kernels, an addition say, lose more by being shared out among threads than they gain
# (measured: two threads, 35 ms for a minibatch in place of 15). They are, where MXNet finds
# OMP_NUM_THREADS; so it is hidden until MXNet is loaded. It is for products, see set_threads.
os.environ.setdefault("MXNET_OMP_MAX_THREADS", "1")
_OMP_NUM_THREADS = os.environ.pop("OMP_NUM_THREADS", None)

with warnings.catch_warnings():
    if not os.environ.get("RNN_SCRATCH_VERBOSE"):
        warnings.simplefilter("ignore")  # MXNet itself uses a lot that is deprecated by now
    import mxnet
    from mxnet import autograd, np, npx

if _OMP_NUM_THREADS is not None:
    os.environ["OMP_NUM_THREADS"] = _OMP_NUM_THREADS

# NumPy's shapes and arrays, in place of MXNet's own older ones. MXNet would say so in the root
# logger, and thereby install a handler there for everybody: it is told that it has said it.
mxnet.util._set_np_shape_logged = mxnet.util._set_np_array_logged = True
npx.set_np()

_eager = False


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    return ["cuda", "cpu"] if mxnet.context.num_gpus() else ["cpu"]


def set_threads(threads):
    """Compute with so many threads from here on (None: its own choice), and say how many."""
    library = mxnet.base._LIB
    if not mxnet.runtime.Features().is_enabled("OPENMP"):
        return 1
    # Of its own accord it takes half of the processors, the other half being hyperthreads.
    wanted = threads or int(_OMP_NUM_THREADS or max(1, (os.cpu_count() or 1) // 2))
    found = []

    def in_engine(*_):
        library.omp_set_num_threads(wanted)
        found.append(library.omp_get_max_threads())

    # OpenMP keeps the number for each thread that calls it, and MXNet computes in a thread of its
    # engine: set from here, by threadpoolctl for instance, it would change nothing (measured). So
    # the engine is given this function as an operation to execute. Both of MXNet's libraries for
    # matrix products, OpenBLAS and oneDNN, follow OpenMP.
    operation = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(in_engine)
    cpu = (ctypes.c_int * 2)(mxnet.cpu().device_typeid, 0)
    mxnet.base.check_call(
        library.MXEnginePushSyncND(operation, None, None, cpu, None, 0, None, 0, None, 0, None)
    )
    npx.waitall()
    return found[0]


def set_eager(eager):
    """Run the same functions uncompiled, for stepping through them; before a model is made."""
    global _eager
    _eager = eager


def set_tf32(allowed):
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23."""
    os.environ["MXNET_CUDA_TENSOR_OP_MATH_ALLOW_CONVERSION"] = str(int(allowed))


def synchronize(device):
    """Return when all that was asked of any device is done."""
    npx.waitall()


def environment():
    """The version of MXNet, the libraries that it multiplies matrices with, and a GPU."""
    features = mxnet.runtime.Features()
    built = [name for name in features if name.startswith("BLAS") or name in ("MKLDNN", "CUDA")]
    found = {
        "mxnet": mxnet.__version__,
        "blas": ", ".join(sorted(name for name in built if features.is_enabled(name))),
    }
    if mxnet.context.num_gpus():
        found["gpu"] = str(mxnet.gpu(0))
    return found


def memory(device):
    """The most bytes that tensors have taken on the device so far; None where it is not told."""
    if device != "cuda":
        return None
    free, total = mxnet.context.gpu_memory_info()  # MXNet keeps what it once took
    return total - free


def multiply(h, W, times):
    """`times` products of h (N, H) and W (H, H), one after another: what limits training."""
    for _ in range(times):
        h = product(h, W)
    return h


def product(h, W_T):
    """h @ W, where `W_T` (H, H) is the transpose of W: h (B, H) to (B, H)."""
    # Transposed, and so in fact W.T @ h.T: oneDNN, behind fully_connected, rearranges what it takes
    # for weights, before it multiplies. It takes a quarter less time to do so with the smaller h.
    return npx.fully_connected(W_T, h, num_hidden=len(h), no_bias=True).T


def outer(x, y):
    """x.T @ y, of N outer products the sum: x (N, H), y (N, H) to (H, H)."""
    # With oneDNN, to which `@` does not go, and of transposed copies, which take no time to speak
    # of where MXNet makes them for its older arrays: on a processor with AVX-512 in two thirds of
    # the time, and without it in about the same.
    x, y = (mxnet.nd.transpose(z.as_nd_ndarray()).as_np_ndarray() for z in (x, y))
    return npx.fully_connected(x, y, num_hidden=len(y), no_bias=True)


def affine(x, W, b):
    """x @ W + b: x (N, H), W (H, V), b (V,) to (N, V)."""
    return npx.fully_connected(x, W.T, b, num_hidden=len(b))  # with oneDNN


def split(x, size):
    """The rows of x (N, H) in parts (size, H)."""
    # As np.split does, twenty times faster; but it takes and gives MXNet's older arrays.
    x, parts = x.as_nd_ndarray(), len(x) // size
    found = mxnet.nd.SliceChannel(x, num_outputs=parts, axis=0)
    return [part.as_np_ndarray() for part in (found if parts > 1 else [found])]


def attach_grad(x):
    """As x.attach_grad(), but x.grad is not filled with zeros, which backward() overwrites."""
    autograd.mark_variables([x], [np.empty(x.shape, dtype=x.dtype, ctx=x.ctx)])


def total(x):
    """The sum of the elements of x (N,) or (N, M)."""
    # A product with ones, and then the sum of that: x.sum() takes ten times as long.
    ones = np.ones((1, x.shape[-1]), dtype=x.dtype, ctx=x.ctx)
    return npx.fully_connected(np.atleast_2d(x), ones, num_hidden=1, no_bias=True).sum()


def context(device):
    """MXNet's name for the device."""
    return mxnet.gpu(0) if device == "cuda" else mxnet.cpu()


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    return np.array(array, dtype=array.dtype, ctx=context(device))


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return tensor.asnumpy()


def compiled(function):
    """The same function of tensors and, last, options: MXNet records it once per shape.

    The graph is replayed as a whole, in memory laid out beforehand, and gives the same numbers to
    the last bit as its operations do one after another.
    """
    graphs = {}

    @functools.wraps(function)
    def function_or_graph(*tensors_and_options):
        *tensors, options = tensors_and_options
        if _eager:
            return function(*tensors, options)
        key = (options, *(x.shape for x in tensors))
        if key not in graphs:
            graphs[key] = _record(function, tensors, options)
        graph, order = graphs[key]
        return graph(*(tensors[i] for i in order))

    return function_or_graph


def _record(function, tensors, options):
    # The graph of `function`, and in which order it wants the tensors.
    tensors = [x.detach() for x in tensors]
    for x in tensors:
        x.attach_grad()  # which makes it a variable of the graph
    with autograd.record():
        results = function(*tensors, options)
    results = results if isinstance(results, tuple) else (results,)
    graph = mxnet.sym.Group([autograd.get_symbol(x) for x in results]).as_np_ndarray()
    variables = [autograd.get_symbol(x).name for x in tensors]
    order = [variables.index(name) for name in graph.list_inputs()]
    flags = (("static_alloc", True), ("static_shape", True))
    return mxnet.nd.CachedOp(graph, flags), order
