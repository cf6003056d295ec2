"""Adam of each framework beside this project's: where its ε is, and what its weight decay does.

`python -m measure optimizers FILE` writes the record of which the page on equal numbers has a
table: parameters after some updates in float64 with the same gradients. It takes a minute.
"""

import math
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from measure.measuring import alone, write
from rnn_scratch import registry
from rnn_scratch.contract import Model, Options, Rates, Update

LR = 2.0**-9  # a float32, as Keras and MXNet keep theirs in one
WEIGHT_DECAY = 0.125
SIZES = (1.0, 1e-4, 1e-8)  # of the elements of the gradients; ε is as large as the last
UPDATES = 10
START = np.array([0.5, -0.25, 1.0])
GRADS = np.random.RandomState(0).normal(size=(UPDATES, 3)) * SIZES
HOW = Update(optimizer="adam")


def torch(arrays, grads, how, lr=LR):
    """Return the parameters that start at these arrays, after updates by PyTorch's optimizer."""
    import torch

    params = {name: torch.tensor(array) for name, array in arrays.items()}
    if how.optimizer == "adam":
        betas = how.beta1, how.beta2
        optimizer = torch.optim.AdamW(params.values(), lr, betas, how.epsilon, how.weight_decay)
    else:
        optimizer = torch.optim.SGD(params.values(), lr, momentum=how.beta1)
    for step_grads in grads:
        for name, param in params.items():
            param.grad = torch.tensor(step_grads[name])
        optimizer.step()
    return {name: param.numpy() for name, param in params.items()}


def tensorflow(arrays, grads, how, lr=LR):
    """Return the parameters after updates by Keras's optimizer."""
    import keras

    params = {name: keras.Variable(array, dtype="float64") for name, array in arrays.items()}
    if how.optimizer == "adam":
        betas = how.beta1, how.beta2
        optimizer = keras.optimizers.AdamW(lr, how.weight_decay, *betas, how.epsilon)
    else:
        optimizer = keras.optimizers.SGD(lr, momentum=how.beta1)
    for step_grads in grads:
        tensors = [keras.ops.convert_to_tensor(step_grads[name]) for name in params]
        optimizer.apply(tensors, [*params.values()])
    return {name: keras.ops.convert_to_numpy(param) for name, param in params.items()}


def mxnet(arrays, grads, how, lr=LR):
    """Return those after updates by MXNet's Trainer, which adds weight decay to the gradient."""
    from mxnet import autograd, gluon, np

    params = {
        name: gluon.Parameter(name, shape=a.shape, dtype=a.dtype) for name, a in arrays.items()
    }
    for name, param in params.items():
        param.initialize("zeros")
        param.set_data(np.array(arrays[name], dtype="float64"))
    adam = {"beta1": how.beta1, "beta2": how.beta2, "epsilon": how.epsilon}
    adam["wd"] = how.weight_decay
    name, more = {"adam": ("adam", adam)}.get(how.optimizer, ("sgd", {"momentum": how.beta1}))
    optimizer = gluon.Trainer(params, name, {"learning_rate": lr, **more})
    for step_grads in grads:
        with autograd.record():  # a sum with these gradients
            tensors = {n: np.array(grad, dtype="float64") for n, grad in step_grads.items()}
            total = sum((param.data() * tensors[n]).sum() for n, param in params.items())
        total.backward()
        optimizer.step(1)
    return {name: param.data().asnumpy() for name, param in params.items()}


def jax(arrays, grads, how, lr=LR):
    """Return those after updates by optax, which Flax's users take."""
    import optax

    tensor = partial(registry.load("jax").machine.tensor, device="cpu")
    params = {name: tensor(array) for name, array in arrays.items()}
    if how.optimizer == "adam":
        betas = how.beta1, how.beta2
        optimizer = optax.adamw(lr, *betas, how.epsilon, weight_decay=how.weight_decay)
    else:
        optimizer = optax.sgd(lr, momentum=how.beta1)
    kept = optimizer.init(params)
    for step_grads in grads:
        tensors = {name: tensor(grad) for name, grad in step_grads.items()}
        changes, kept = optimizer.update(tensors, kept, params)
        params = optax.apply_updates(params, changes)
    return {name: np.asarray(param) for name, param in params.items()}


def ours(decay=0.0, name="torch"):
    """Return those after updates by this project's Adam, written in the form of a framework's."""
    paper, coupled = OPTIMIZERS[name][2], name == "mxnet"

    def constant(value, names=("mxnet",)):  # a float32 in these frameworks
        return float(np.float32(value)) if name in names else value

    params, slots = {"w": START.copy()}, {slot: {"w": np.zeros(3)} for slot in "mv"}
    model = Model(params, Options(1, 1), None, None, None, slots=slots)
    betas = HOW.beta1, HOW.beta2
    how = HOW._replace(epsilon=constant(HOW.epsilon))
    how = how._replace(beta1=constant(betas[0]), beta2=constant(betas[1]))
    for t, grad in enumerate(GRADS, 1):
        rates = Rates(LR, *(1 - constant(beta, ("tensorflow",)) ** t for beta in betas))
        if paper:  # the learning rate has the means' corrections in it, and the decay has not
            rates = Rates(constant(LR * math.sqrt(rates.c_v) / rates.c_m), 1.0, 1.0)
        if coupled:
            grad = grad + decay * params["w"]
        else:
            how = how._replace(weight_decay=decay * LR / rates.lr)
        registry.load("numpy").deep.adam(model, {"w": grad}, how, rates)
    return params["w"]


# Of each framework: its optimizer, and whether its ε is the paper's ε̂. Some constants are float32
# besides: all of MXNet's, and the betas with which Keras corrects the means. MXNet's weight decay
# is added to the gradient.
OPTIMIZERS = {
    "torch": ("torch.optim.AdamW", torch, False),
    "tensorflow": ("keras.optimizers.AdamW", tensorflow, True),
    "mxnet": ('gluon.Trainer(..., "adam")', mxnet, True),
    "jax": ("optax.adamw", jax, False),
}


def measure(name: str) -> Iterator[dict[str, Any]]:
    """Yield by what share of the learning rate a framework's parameters differ from others."""
    optimizer, function, paper = OPTIMIZERS[name]
    backend, _ = registry.start(name, threads=1)
    library = {"tensorflow": "keras", "jax": "optax"}.get(name, name)
    versions = backend.machine.environment()
    if library in ("keras", "optax"):
        versions[library] = version(library)
    grads = [{"w": grad} for grad in GRADS]
    plain, decayed = (
        function({"w": START}, grads, HOW._replace(weight_decay=decay))["w"]
        for decay in (0.0, WEIGHT_DECAY)
    )
    yield {
        "optimizer": optimizer,
        "library": library,
        "paper": paper,
        "versions": versions,
        "differences": (np.abs(plain - ours()) / LR).tolist(),  # from our Adam, by SIZES
        "explained": float(np.abs(plain - ours(name=name)).max() / LR),  # from ours in its form
        "decayed": float(np.abs(decayed - ours(WEIGHT_DECAY, name)).max() / LR),
    }


def main(file):
    """Measure everything, each framework in a process of its own, and write the record."""
    constants = {"lr": LR, "epsilon": HOW.epsilon, "weight_decay": WEIGHT_DECAY}
    record = {**constants, "updates": UPDATES, "sizes": list(SIZES), "frameworks": {}}
    for name in OPTIMIZERS:
        record["frameworks"][name] = alone(measure, name)
    write(file, record)
