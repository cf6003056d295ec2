"""Fused operations, which read memory once instead of once per elementary operation."""

import mxnet

from . import deep


def adam(model, grads, update):
    """Apply Adam; in float32 on the CPU, use one fused operation per parameter."""
    options = model.options
    if (options.dtype, options.device) != ("float32", "cpu"):
        return deep.adam(model, grads, update)
    # The operation lacks bias corrections, so include them in the learning rate and epsilon:
    # (m / c_m) / (sqrt(v / c_v) + e) = sqrt(c_v) / c_m * m / (sqrt(v) + sqrt(c_v) * e).
    lr, root = update.lr, update.c_v**0.5
    settings = {"beta1": update.beta1, "beta2": update.beta2, "epsilon": root * update.epsilon}
    for name, param in model.params.items():
        if update.weight_decay:  # the operation would add the decay to the gradient
            param *= 1 - lr * update.weight_decay
        m, v = (model.slots[slot][name] for slot in "mv")
        tensors = [tensor.as_nd_ndarray() for tensor in (param, grads[name], m, v)]  # no copies
        mxnet.nd.adam_update(*tensors, lr=root / update.c_m * lr, **settings, out=tensors[0])
