"""Compiled graphs: a function's operations, recorded once and then executed as a whole."""

import functools

import mxnet
from mxnet import autograd

eager = False  # see `set_eager` in ``machine``


def graph(function):
    """The same function of tensors and, last, options, as a compiled graph per options and shapes.

    The memory of a graph is laid out beforehand, and its results are those of its operations one
    after another, to the last bit.
    """
    graphs = {}

    @functools.wraps(function)
    def replay(*tensors_and_options):
        *tensors, options = tensors_and_options
        if eager:
            return function(*tensors, options)
        key = (options, *(x.shape for x in tensors))
        if key not in graphs:
            graphs[key] = cached_op(function, tensors, options)
        operation, order = graphs[key]
        return operation(*(tensors[i] for i in order))

    return replay


def cached_op(function, tensors, options):
    """MXNet's operation for the function, and the order in which it takes the tensors."""
    tensors = [x.detach() for x in tensors]
    for x in tensors:
        x.attach_grad()  # which makes it a variable of the graph
    with autograd.record():
        results = function(*tensors, options)
    results = results if isinstance(results, tuple) else (results,)
    symbol = mxnet.sym.Group([autograd.get_symbol(x) for x in results]).as_np_ndarray()
    variables = [autograd.get_symbol(x).name for x in tensors]
    order = [variables.index(name) for name in symbol.list_inputs()]
    return mxnet.nd.CachedOp(symbol, (("static_alloc", True), ("static_shape", True))), order
