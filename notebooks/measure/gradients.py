"""Clip gradients, and train embeddings, with the functions of other frameworks."""

from collections.abc import Callable, Sequence

import numpy as np

from measure import optimizers
from rnn_scratch import registry
from rnn_scratch.contract import Arrays, UpdateRule

Clip = Callable[[Arrays, float], Arrays]
# Trains an embedding (V, N): an update for each array of tokens (B, T), with the gradients
# (B, T, N) of the loss with respect to the layer's outputs. Returns the embedding.
Train = Callable[[np.ndarray, Sequence[np.ndarray], Sequence[np.ndarray], UpdateRule], np.ndarray]


def clip_torch(grads: Arrays, theta: float) -> Arrays:
    """Clip with PyTorch, in place."""
    import torch

    params = {name: torch.zeros(grad.shape, dtype=torch.float64) for name, grad in grads.items()}
    for name, param in params.items():
        param.grad = torch.tensor(grads[name])
    torch.nn.utils.clip_grad_norm_(params.values(), theta)
    return {name: param.grad.numpy() for name, param in params.items()}


def clip_keras(grads: Arrays, theta: float) -> Arrays:
    """Clip with a Keras optimizer that subtracts the clipped gradients from zeros."""
    import keras

    variables = [keras.Variable(np.zeros(g.shape), dtype="float64") for g in grads.values()]
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=theta)
    optimizer.apply([keras.ops.convert_to_tensor(grad) for grad in grads.values()], variables)
    return {n: -keras.ops.convert_to_numpy(values) for n, values in zip(grads, variables)}


def clip_tensorflow(grads: Arrays, theta: float) -> Arrays:
    """Clip with TensorFlow."""
    import tensorflow as tf

    clipped, _ = tf.clip_by_global_norm([tf.constant(grad) for grad in grads.values()], theta)
    return {name: array.numpy() for name, array in zip(grads, clipped)}


def clip_mxnet(grads: Arrays, theta: float) -> Arrays:
    """Clip with MXNet, in place and in float32, because it fails in float64."""
    registry.load("mxnet")  # makes MXNet compatible with recent versions of NumPy
    from mxnet import gluon, nd

    arrays = [nd.array(grad, dtype="float32") for grad in grads.values()]
    gluon.utils.clip_global_norm(arrays, theta)
    return {name: array.asnumpy() for name, array in zip(grads, arrays)}


def clip_optax(grads: Arrays, theta: float) -> Arrays:
    """Clip with Optax."""
    import jax.numpy as jnp
    import optax

    clip = optax.clip_by_global_norm(theta)
    tensors = {name: jnp.array(grad) for name, grad in grads.items()}
    clipped, _ = clip.update(tensors, clip.init(tensors))
    return {name: np.asarray(array) for name, array in clipped.items()}


def clip_mlx(grads: Arrays, theta: float) -> Arrays:
    """Clip with MLX."""
    import mlx.core as mx
    from mlx.optimizers import clip_grad_norm

    with mx.stream(mx.cpu):  # the only device with float64
        tensors = {name: mx.array(grad, mx.float64) for name, grad in grads.items()}
        clipped, _ = clip_grad_norm(tensors, theta)
        return {name: np.array(array) for name, array in clipped.items()}


def train_torch(W, tokens, grads, update, sparse=False):
    """Train ``nn.Embedding``; with `sparse`, its gradients contain only the rows that occur."""
    import torch

    layer = torch.nn.Embedding.from_pretrained(torch.tensor(W), freeze=False, sparse=sparse)
    if sparse and update.optimizer == "adam":
        betas = update.beta1, update.beta2
        optimizer = torch.optim.SparseAdam(layer.parameters(), update.lr, betas, update.epsilon)
    else:
        optimizer = optimizers.make_torch(layer.parameters(), update, update.lr)
    for step_tokens, step_grads in zip(tokens, grads):
        optimizer.zero_grad()
        (layer(torch.tensor(step_tokens)) * torch.tensor(step_grads)).sum().backward()
        optimizer.step()
    return layer.weight.detach().numpy()


def train_torch_sparse(W, tokens, grads, update):
    """Train ``nn.Embedding(sparse=True)``."""
    return train_torch(W, tokens, grads, update, sparse=True)


def train_keras(W, tokens, grads, update):
    """Train ``keras.layers.Embedding``."""
    import keras

    layer = keras.layers.Embedding(*W.shape, dtype="float64")
    model = keras.Sequential([layer])
    model.build(tokens[0].shape)
    layer.set_weights([W])
    optimizer = optimizers.make_keras(update, update.lr)
    model.compile(optimizer, lambda factors, outputs: keras.ops.sum(factors * outputs))
    for step_tokens, step_grads in zip(tokens, grads):
        model.train_on_batch(step_tokens, step_grads)
    return layer.get_weights()[0]


def train_mxnet(W, tokens, grads, update):
    """Train ``gluon.nn.Embedding``."""
    registry.load("mxnet")  # makes MXNet compatible with recent versions of NumPy
    from mxnet import autograd, gluon, np

    layer = gluon.nn.Embedding(*W.shape, dtype="float64")
    layer.initialize("zeros")
    layer.weight.set_data(np.array(W, dtype="float64"))
    optimizer = optimizers.make_mxnet(layer.collect_params(), update, update.lr)
    for step_tokens, step_grads in zip(tokens, grads):
        with autograd.record():
            outputs = layer(np.array(step_tokens, dtype="int64"))
            total = (outputs * np.array(step_grads, dtype="float64")).sum()
        total.backward()
        optimizer.step(1)
    return layer.weight.data().asnumpy()


def train_optax(W, tokens, grads, update):
    """Train ``flax.nnx.Embed`` with Optax."""
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.Embed(*W.shape, param_dtype=jnp.float64, dtype=jnp.float64, rngs=nnx.Rngs(0))
    layer.embedding[...] = jnp.array(W)
    optimizer = nnx.Optimizer(layer, optimizers.make_optax(update, update.lr), wrt=nnx.Param)
    for step_tokens, step_grads in zip(tokens, grads):
        factors = jnp.array(step_grads)
        indices = jnp.array(step_tokens)

        def loss(layer, indices=indices, factors=factors):
            return (layer(indices) * factors).sum()

        optimizer.update(layer, nnx.grad(loss)(layer))
    return np.asarray(layer.embedding[...])


def train_mlx(W, tokens, grads, update):
    """Train ``mlx.nn.Embedding``."""
    import mlx.core as mx
    from mlx import nn

    with mx.stream(mx.cpu):  # the only device with float64
        layer = nn.Embedding(*W.shape)
        layer.weight = mx.array(W, mx.float64)
        optimizer = optimizers.make_mlx(update, update.lr)
        for step_tokens, step_grads in zip(tokens, grads):
            indices, factors = mx.array(step_tokens), mx.array(step_grads, mx.float64)

            def loss(layer, indices=indices, factors=factors):
                return (layer(indices) * factors).sum()

            _, layer_grads = nn.value_and_grad(layer, loss)(layer)
            optimizer.update(layer, layer_grads)
        return np.array(layer.weight)


CLIPS: dict[str, tuple[str, Clip]] = {
    "torch": ("torch.nn.utils.clip_grad_norm_", clip_torch),
    "keras": ("global_clipnorm", clip_keras),
    "tensorflow": ("tf.clip_by_global_norm", clip_tensorflow),
    "mxnet": ("gluon.utils.clip_global_norm", clip_mxnet),
    "optax": ("optax.clip_by_global_norm", clip_optax),
    "mlx": ("mlx.optimizers.clip_grad_norm", clip_mlx),
}
EMBEDDINGS: dict[str, dict[str, Train]] = {
    "torch": {
        "torch.nn.Embedding": train_torch,
        "torch.nn.Embedding(sparse=True)": train_torch_sparse,
    },
    "keras": {"keras.layers.Embedding": train_keras},
    "mxnet": {"gluon.nn.Embedding": train_mxnet},
    "optax": {"flax.nnx.Embed": train_optax},
    "mlx": {"mlx.nn.Embedding": train_mlx},
}
