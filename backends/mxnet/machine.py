"""What MXNet computes on: CPU or CUDA, its threads, its graphs; and what it needs to start."""

import ctypes
import functools
import os
import warnings

import numpy

# MXNet 1.9.1 still asks for numpy.bool, which NumPy 1.24 removed: while it is imported, and later
# when it indexes. So the name stays. (NumPy 2 has it again, but MXNet does not run there.)
vars(numpy).setdefault("bool", bool)

with warnings.catch_warnings():
    if not os.environ.get("RNN_SCRATCH_VERBOSE"):
        warnings.simplefilter("ignore")  # MXNet's own sources are full of what is deprecated by now
    import mxnet
    from mxnet import autograd, np, npx

# NumPy's semantics of shapes and arrays in place of MXNet's own older ones. MXNet would log this
# through the root logger and so install a handler there, for everybody: it thinks that it has.
mxnet.util._set_np_shape_logged = True
npx.set_np()

_eager = False


def devices(dtype):
    """The devices that can compute in this dtype here and now, the best first."""
    return ["cuda", "cpu"] if mxnet.context.num_gpus() else ["cpu"]


def set_threads(threads):
    """Compute with so many threads from here on (None: as it is), and say how many it will be."""
    library = mxnet.base._LIB
    if not mxnet.runtime.Features().is_enabled("OPENMP"):
        return 1
    found = []

    def in_engine(*_):
        if threads is not None:
            library.omp_set_num_threads(threads)
        found.append(library.omp_get_max_threads())

    # OpenMP counts its threads per calling thread, and MXNet does not compute in this one but in
    # its engine's: setting the number here, with threadpoolctl for instance, would change nothing
    # (measured). So the engine is given this function as an operation to execute.
    operation = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(in_engine)
    cpu = (ctypes.c_int * 2)(mxnet.cpu().device_typeid, 0)
    mxnet.base.check_call(
        library.MXEnginePushSyncND(operation, None, None, cpu, None, 0, None, 0, None, 0, None)
    )
    npx.waitall()
    return found[0]


def set_eager(eager):
    """Run the same functions uncompiled, for stepping through them."""
    global _eager
    _eager = eager


def synchronize(device):
    """Return when all that was asked of any device is done."""
    npx.waitall()


def environment():
    """The versions of MXNet and of what it was built with, and whether there is a GPU."""
    features = mxnet.runtime.Features()
    built = [name for name in features if name.startswith("BLAS") or name in ("MKLDNN", "CUDA")]
    found = {
        "mxnet": mxnet.__version__,
        "blas": ", ".join(sorted(name for name in built if features.is_enabled(name))),
    }
    if mxnet.context.num_gpus():
        found["gpu"] = str(mxnet.gpu(0))
    return found


def context(device):
    """MXNet's name for the device."""
    return mxnet.gpu(0) if device == "cuda" else mxnet.cpu()


def tensor(array, device):
    """The array as a tensor of the same dtype on the device."""
    return np.array(array, dtype=array.dtype, ctx=context(device))


def array(tensor):
    """The tensor as a NumPy array of the same dtype."""
    return tensor.asnumpy()


def compiled(forward):
    """The same function, which autograd records once per shape; from then on MXNet replays it.

    What is replayed is the graph as a whole, with its memory laid out beforehand, in place of one
    operation after another. Only training is: elsewhere nothing records, and shapes change.
    """
    graphs = {}

    @functools.wraps(forward)
    def forward_or_graph(tokens, state, params, options):
        if _eager or not autograd.is_recording():
            return forward(tokens, state, params, options)
        inputs = [tokens, *state, *params.values()]
        key = (options, *(x.shape for x in inputs))
        if key not in graphs:
            graphs[key] = _record(forward, inputs, len(state), list(params), options)
        graph, order = graphs[key]
        logits, *state = graph(*(inputs[i] for i in order))
        return logits, tuple(state)

    return forward_or_graph


def _record(forward, inputs, num_states, names, options):
    # The graph of `forward`, and in which order it wants the inputs.
    inputs = [x.detach() for x in inputs]
    for x in inputs:
        x.attach_grad()  # which makes it a variable of the graph
    tokens, state, params = inputs[0], inputs[1 : 1 + num_states], inputs[1 + num_states :]
    with autograd.record():
        logits, state = forward(tokens, tuple(state), dict(zip(names, params)), options)
    outputs = mxnet.sym.Group([autograd.get_symbol(x) for x in (logits, *state)]).as_np_ndarray()
    variables = [autograd.get_symbol(x).name for x in inputs]
    order = [variables.index(name) for name in outputs.list_inputs()]
    flags = (("static_alloc", True), ("static_shape", True))
    return mxnet.nd.CachedOp(outputs, flags), order
