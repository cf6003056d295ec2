"""Compiled graphs that record a function's operations once and execute them as a whole."""

import functools

import mxnet
from mxnet import autograd

is_eager = False  # set by `machine.set_eager`


def graph(function):
    """Compile a function of tensors and options into one graph per set of options and shapes.

    The options are the last argument. A graph's memory is allocated in advance. The graph and the
    function return the same results, bit for bit.
    """
    graphs = {}

    @functools.wraps(function)
    def replay(*tensors_and_options):
        *tensors, options = tensors_and_options
        if is_eager:
            return function(*tensors, options)
        key = (options, *(x.shape for x in tensors))
        if key not in graphs:
            graphs[key] = make_cached_op(function, tensors, options)
        operation, order = graphs[key]
        return operation(*(tensors[i] for i in order))

    return replay


def make_cached_op(function, tensors, options):
    """Return an MXNet operation that computes `function`, and the order of its input tensors."""
    tensors = [x.detach() for x in tensors]
    for x in tensors:
        x.attach_grad()  # makes x a variable of the graph
    with autograd.record():
        results = function(*tensors, options)
    results = results if isinstance(results, tuple) else (results,)
    symbol = mxnet.sym.Group([autograd.get_symbol(x) for x in results]).as_np_ndarray()
    variables = [autograd.get_symbol(x).name for x in tensors]
    order = [variables.index(name) for name in symbol.list_inputs()]
    return mxnet.nd.CachedOp(symbol, (("static_alloc", True), ("static_shape", True))), order
