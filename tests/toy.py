"""A toy framework for the backend-writing guide: NumPy with a larger framework's constraints.

Tensors are immutable and are computed by another thread. `value_and_grad` differentiates a function
with respect to its argument and treats all other values that the function uses as constants.
"""

import concurrent.futures
import os

import numpy as np

started = []  # IDs of the processes in which the thread was started
tape = None  # operations of the function being differentiated


def start():
    """Record the process ID and disable NumPy's floating-point warnings in this thread."""
    started.append(os.getpid())
    np.seterr(all="ignore")


worker = concurrent.futures.ThreadPoolExecutor(1, initializer=start)


class Tensor:
    """An array computed by the worker thread."""

    def __init__(self, future):
        self.future = future

    def __float__(self):
        return float(self.numpy())

    def __getitem__(self, index):
        return operation(lambda a: a[index])(self)

    def numpy(self):
        """Wait for the array and return it."""
        return self.future.result()

    def flatten(self):
        """Return the elements as a vector."""
        return operation(np.ravel)(self)

    T = property(lambda self: operation(np.transpose)(self))
    shape = property(lambda self: self.numpy().shape)


def tensor(array):
    """Return a tensor that shares memory with the array."""
    future = concurrent.futures.Future()
    future.set_result(array)
    return Tensor(future)


def operation(function, *backward):
    """Convert a function of arrays to a function of tensors.

    For each argument, `backward` contains a function that computes the argument's gradient from the
    result's gradient, the result and all arguments. If `backward` is empty, no gradient flows back.
    """

    def later(*inputs):
        def compute():
            return function(*(x.numpy() if isinstance(x, Tensor) else x for x in inputs))

        result = Tensor(worker.submit(compute))
        if tape is not None:
            tape.append((result, inputs, backward))
        return result

    return later


def value_and_grad(function, params):
    """Return the two results of `function`, and the gradients of the first, sorted by name."""
    global tape
    params = {name: Tensor(param.future) for name, param in params.items()}
    tape = recorded = []
    try:
        value, auxiliary = function(params)
    finally:
        tape = None
    grads = {value: operation(np.ones_like)(value)}
    for result, inputs, backward in reversed(recorded):
        for x, back in zip(inputs, backward):
            if isinstance(x, Tensor) and result in grads:
                grad = operation(back)(grads[result], result, *inputs)
                grads[x] = grads[x] + grad if x in grads else grad
    zeros = operation(np.zeros_like)
    return value, auxiliary, {n: grads.get(params[n]) or zeros(params[n]) for n in sorted(params)}


def add_back(d, y, a, b):
    """Return the gradient with respect to `b`, which may be a bias added to each row."""
    return d.sum(0) if np.ndim(b) < d.ndim else d


def log_softmax(logits):
    """Return the log-softmax of each row."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def cross_entropy_back(d, y, logits, labels):
    """Return the gradient with respect to the logits."""
    grad = np.exp(log_softmax(logits))
    grad[np.arange(len(labels)), labels] -= 1
    return d * grad / len(labels)


def concatenate(tensors):
    """Concatenate tensors of equal shape along the first axis."""

    def back(i):
        return lambda d, *_: np.split(d, len(tensors))[i]

    join = operation(lambda *arrays: np.concatenate(arrays), *map(back, range(len(tensors))))
    return join(*tensors)


add = operation(np.add, lambda d, *_: d, add_back)
subtract = operation(np.subtract, lambda d, *_: d, lambda d, *_: -d)
multiply = operation(np.multiply, lambda d, y, a, b: d * b, lambda d, y, a, b: d * a)
divide = operation(np.divide)
matmul = operation(np.matmul, lambda d, y, a, b: d @ b.T, lambda d, y, a, b: a.T @ d)
tanh = operation(np.tanh, lambda d, y, z: d * (1 - y * y))
relu = operation(lambda z: np.maximum(z, 0), lambda d, y, z: d * (z > 0))
sigmoid = operation(lambda z: 1 / (1 + np.exp(-z)), lambda d, y, z: d * y * (1 - y))
one_hot = operation(lambda indices, like: np.eye(len(like), dtype=like.dtype)[indices])
cross_entropy = operation(
    lambda logits, labels: -log_softmax(logits)[np.arange(len(labels)), labels].mean(),
    cross_entropy_back,
)
stop_gradient = operation(lambda a: a)
sqrt, minimum, round, sum = map(operation, (np.sqrt, np.minimum, np.round, np.sum))

Tensor.__add__ = Tensor.__radd__ = add
Tensor.__sub__, Tensor.__rsub__ = subtract, lambda a, b: subtract(b, a)
Tensor.__mul__ = Tensor.__rmul__ = multiply
Tensor.__truediv__, Tensor.__rtruediv__ = divide, lambda a, b: divide(b, a)
Tensor.__matmul__ = matmul
