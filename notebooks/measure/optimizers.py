"""Compare the frameworks' versions of Adam with this project's; they differ in where they add ε.

`python -m measure optimizers FILE` writes the record for a table on the parity page: differences
between parameters after ten updates in float64 with equal gradients. The comparison takes a minute.
"""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from measure.measuring import spawn, write
from rnn_scratch import registry
from rnn_scratch.contract import UpdateRule

LR = 2.0**-9  # exact in float32; Keras and MXNet round to float32
SIZES = (1.0, 1e-4, 1e-8)  # gradient scales; the last is as small as ε
UPDATES = 10
START = np.array([0.5, -0.25, 1.0])
GRADS = np.random.RandomState(0).normal(size=(UPDATES, 3)) * SIZES
UPDATE = UpdateRule(optimizer="adam")


def torch(arrays, grads, update, lr=LR):
    """Return the parameters after updates with a PyTorch optimizer."""
    import torch

    params = {name: torch.tensor(array) for name, array in arrays.items()}
    optimizer = make_torch(params.values(), update)
    for step_grads, rate in zip(grads, list_rates(lr, grads)):
        optimizer.param_groups[0]["lr"] = rate
        for name, param in params.items():
            param.grad = torch.tensor(step_grads[name])
        optimizer.step()
    return {name: param.numpy() for name, param in params.items()}


def make_torch(params, update, lr=LR):
    """Return the PyTorch optimizer for an update rule."""
    import torch

    if update.optimizer == "adam":
        betas = update.beta1, update.beta2
        return torch.optim.AdamW(params, lr, betas, update.epsilon, update.weight_decay)
    if update.optimizer == "momentum":
        return torch.optim.SGD(params, lr, update.beta1, weight_decay=update.weight_decay)
    return torch.optim.SGD(params, lr)


def tensorflow(arrays, grads, update, lr=LR):
    """Return the parameters after updates with a Keras optimizer."""
    import keras

    params = {name: keras.Variable(array, dtype="float64") for name, array in arrays.items()}
    optimizer = make_keras(update)
    for step_grads, rate in zip(grads, list_rates(lr, grads)):
        optimizer.learning_rate = rate
        tensors = [keras.ops.convert_to_tensor(step_grads[name]) for name in params]
        optimizer.apply(tensors, [*params.values()])
    return {name: keras.ops.convert_to_numpy(param) for name, param in params.items()}


def make_keras(update, lr=LR):
    """Return the Keras optimizer for an update rule; RMSprop uses β₂."""
    from keras import optimizers

    if update.optimizer == "adam":
        betas = update.beta1, update.beta2
        return optimizers.AdamW(lr, update.weight_decay, *betas, update.epsilon)
    if update.optimizer == "rmsprop":
        return optimizers.RMSprop(lr, update.beta2, epsilon=update.epsilon)
    if update.optimizer == "momentum":
        return optimizers.SGD(lr, update.beta1, weight_decay=update.weight_decay or None)
    return optimizers.SGD(lr)


def mxnet(arrays, grads, update, lr=LR):
    """Return the parameters after updates with a Trainer, which adds weight decay to gradients."""
    from mxnet import autograd, gluon, np

    params = {
        name: gluon.Parameter(name, shape=a.shape, dtype=a.dtype) for name, a in arrays.items()
    }
    for name, param in params.items():
        param.initialize("zeros")
        param.set_data(np.array(arrays[name], dtype="float64"))
    optimizer = make_mxnet(params, update)
    for step_grads, rate in zip(grads, list_rates(lr, grads)):
        optimizer.set_learning_rate(rate)
        with autograd.record():  # a sum whose gradients are `tensors`
            tensors = {n: np.array(grad, dtype="float64") for n, grad in step_grads.items()}
            total = sum((param.data() * tensors[n]).sum() for n, param in params.items())
        total.backward()
        optimizer.step(1)
    return {name: param.data().asnumpy() for name, param in params.items()}


def make_mxnet(params, update, lr=LR):
    """Return the Gluon trainer for an update rule."""
    from mxnet import gluon

    args = {"learning_rate": lr, "wd": update.weight_decay}
    if update.optimizer == "adam":
        args |= {"beta1": update.beta1, "beta2": update.beta2, "epsilon": update.epsilon}
        return gluon.Trainer(params, "adam", args)
    momentum = update.beta1 if update.optimizer == "momentum" else 0.0
    return gluon.Trainer(params, "sgd", {**args, "momentum": momentum})


def jax(arrays, grads, update, lr=LR):
    """Return the parameters after updates with Optax, which Flax recommends."""
    import jax.numpy as jnp
    import optax

    tensor = partial(registry.load("jax").machine.tensor, device="cpu")
    params = {name: tensor(array) for name, array in arrays.items()}
    rates = list_rates(lr, grads)
    optimizer = make_optax(update, lambda count: jnp.array(rates)[count])
    opt_state = optimizer.init(params)
    for step_grads in grads:
        tensors = {name: tensor(grad) for name, grad in step_grads.items()}
        changes, opt_state = optimizer.update(tensors, opt_state, params)
        params = optax.apply_updates(params, changes)
    return {name: np.asarray(param) for name, param in params.items()}


def make_optax(update, lr=LR):
    """Return the Optax transformation for an update rule, without weight decay in the momentum."""
    import optax

    if update.optimizer == "adam":
        betas = update.beta1, update.beta2
        return optax.adamw(lr, *betas, update.epsilon, weight_decay=update.weight_decay)
    return optax.sgd(lr, update.beta1 if update.optimizer == "momentum" else None)


def mlx(arrays, grads, update, lr=LR):
    """Return the parameters after updates with an MLX optimizer."""
    import mlx.core as mx

    with mx.stream(mx.cpu):  # the only device with float64
        params = {name: mx.array(array, mx.float64) for name, array in arrays.items()}
        optimizer = make_mlx(update)
        for step_grads, rate in zip(grads, list_rates(lr, grads)):
            optimizer.learning_rate = rate
            tensors = {name: mx.array(grad, mx.float64) for name, grad in step_grads.items()}
            params = optimizer.apply_gradients(tensors, params)
        return {name: np.array(param) for name, param in params.items()}


def make_mlx(update, lr=LR):
    """Return the MLX optimizer for an update rule, with its defaults otherwise."""
    from mlx import optimizers

    if update.optimizer == "adam":
        betas = [update.beta1, update.beta2]
        return optimizers.AdamW(lr, betas, update.epsilon, update.weight_decay)
    if update.optimizer == "momentum":
        return optimizers.SGD(lr, update.beta1, update.weight_decay)
    return optimizers.SGD(lr)


def list_rates(lr, grads):
    """Return the learning rate of each update; `lr` contains one, or one for each update."""
    return np.broadcast_to(lr, len(grads)).tolist()


def train_adam():
    """Return the parameters after updates with this project's Adam."""
    params, slots = {"w": START.copy()}, {slot: {"w": np.zeros(3)} for slot in "mv"}
    for t, grad in enumerate(GRADS, 1):
        update = UPDATE._replace(lr=LR, c_m=1 - UPDATE.beta1**t, c_v=1 - UPDATE.beta2**t)
        params, slots = registry.load("numpy").deep.adam(params, {"w": grad}, slots, update)
    return params["w"]


# For each framework: its optimizer, a function that applies it, and whether its ε is the
# paper's ε̂.
OPTIMIZERS = {
    "torch": ("torch.optim.AdamW", torch, False),
    "tensorflow": ("keras.optimizers.AdamW", tensorflow, True),
    "mxnet": ('gluon.Trainer(..., "adam")', mxnet, True),
    "jax": ("optax.adamw", jax, False),
}


def measure(name: str) -> Iterator[dict[str, Any]]:
    """Yield a record of an optimizer's differences from `train_adam`, divided by LR."""
    optimizer, function, paper = OPTIMIZERS[name]
    backend, _ = registry.start(name, threads=1)
    library = {"tensorflow": "keras", "jax": "optax"}.get(name, name)
    versions = backend.machine.versions()
    if library in ("keras", "optax"):
        versions[library] = version(library)
    grads = [{"w": grad} for grad in GRADS]
    params = function({"w": START}, grads, UPDATE)["w"]
    yield {
        "optimizer": optimizer,
        "library": library,
        "paper": paper,
        "versions": versions,
        # One difference per size in SIZES.
        "differences": (np.abs(params - train_adam()) / LR).tolist(),
    }


def main(file):
    """Measure each framework in a separate process and write the record to `file`."""
    constants = {"lr": LR, "epsilon": UPDATE.epsilon}
    record = {**constants, "updates": UPDATES, "sizes": list(SIZES), "frameworks": {}}
    for name in OPTIMIZERS:
        record["frameworks"][name] = spawn(measure, name)
    write(file, record)
