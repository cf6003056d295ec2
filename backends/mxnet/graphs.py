"""Compiled graphs: the operations of a function, recorded once and executed as a whole."""

import functools

import mxnet
from mxnet import autograd

eager = False  # see `set_eager` in ``machine``


def graph(function):
    """Compile a function of tensors and, last, options: one graph for each options and shapes.

    A graph's memory is planned in advance. Its results equal those of the separate operations, bit
    for bit.
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
    """Return an MXNet operation for the function, and the order of its arguments."""
    tensors = [x.detach() for x in tensors]
    for x in tensors:
        x.attach_grad()  # makes it a variable of the graph
    with autograd.record():
        results = function(*tensors, options)
    results = results if isinstance(results, tuple) else (results,)
    symbol = mxnet.sym.Group([autograd.get_symbol(x) for x in results]).as_np_ndarray()
    variables = [autograd.get_symbol(x).name for x in tensors]
    order = [variables.index(name) for name in symbol.list_inputs()]
    return mxnet.nd.CachedOp(symbol, (("static_alloc", True), ("static_shape", True))), order
