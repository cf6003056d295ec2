"""What MXNet has one operation for that reads the memory once, where formulas read it many times.

These are for float32. Exact mode, which computes in float64, takes the formulas.
"""

import functools

import mxnet


def squares(grad):
    """The sum of the squares of a gradient's elements, `(grad * grad).sum()`."""
    # A product with itself: MXNet's `sum` also adds up what it rounds off, and takes 20 times as
    # long, a sixteenth of a minibatch (lstm, 512 hidden units).
    if grad.dtype != "float32":
        return (grad * grad).sum()
    grad = grad.as_nd_ndarray().reshape(-1)
    return mxnet.nd.dot(grad, grad).as_np_ndarray().reshape(())


def adam_at_once(adam):
    """`adam`, but for ``fast`` in float32 on the CPU by one operation for each parameter.

    It takes the rates as numbers, and a GPU would have to be waited for to read them.
    """

    @functools.wraps(adam)
    def updated(model, grads, how, rates):
        options = model.options
        if model.backward and (options.dtype, options.device) == ("float32", "cpu"):
            return fused_adam(model, grads, how, rates)
        return adam(model, grads, how, rates)

    return updated


def fused_adam(model, grads, how, rates):
    """`adam` without grids."""
    lr, c_m, c_v = (float(rate) for rate in rates)
    # The operation does not divide by the corrections c of the bias. So they are in its rate and
    # epsilon: (m / c_m) / (sqrt(v / c_v) + e) is sqrt(c_v) / c_m * m / (sqrt(v) + sqrt(c_v) * e).
    root = c_v**0.5
    settings = {"beta1": how.beta1, "beta2": how.beta2, "epsilon": root * how.epsilon}
    for name, param in model.params.items():
        if how.weight_decay:  # the operation would add the decay to the gradient
            param *= 1 - lr * how.weight_decay
        m, v = (model.slots[slot][name] for slot in "mv")
        tensors = [each.as_nd_ndarray() for each in (param, grads[name], m, v)]  # the same memory
        mxnet.nd.adam_update(*tensors, lr=root / c_m * lr, **settings, out=tensors[0])
