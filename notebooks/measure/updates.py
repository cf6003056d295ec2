"""Update parameters, train embeddings and clip gradients with other frameworks.

Each class is a framework. `train` returns the parameters after updates with these gradients and
rules. `embed` trains an embedding (V, N): each update has tokens (B, T) and the gradients (B, T, N)
of the loss with respect to the layer's outputs. `clip` clips by the global norm.
"""

from functools import partial

import numpy as np

from rnn_scratch import registry


class Torch:
    """PyTorch."""

    clipping = "torch.nn.utils.clip_grad_norm_"
    embeddings = {"torch.nn.Embedding": {}, "torch.nn.Embedding(sparse=True)": {"sparse": True}}

    def make(self, params, rule, sparse=False):
        """Return the optimizer for a rule."""
        from torch import optim

        betas = rule.beta1, rule.beta2
        if rule.optimizer == "adam" and sparse:
            return optim.SparseAdam(params, rule.lr, betas, rule.epsilon)
        if rule.optimizer == "adam":
            return optim.AdamW(params, rule.lr, betas, rule.epsilon, rule.weight_decay)
        return optim.SGD(params, rule.lr, rule.beta1, weight_decay=rule.weight_decay)

    def train(self, arrays, grads, rules):
        """Return the parameters after the updates."""
        import torch

        params = {name: torch.tensor(array) for name, array in arrays.items()}
        optimizer = self.make(params.values(), rules[0])
        for step_grads, rule in zip(grads, rules):
            optimizer.param_groups[0]["lr"] = rule.lr
            for name, param in params.items():
                param.grad = torch.tensor(step_grads[name])
            optimizer.step()
        return {name: param.numpy() for name, param in params.items()}

    def embed(self, W, tokens, grads, rule, sparse=False):
        """Train an embedding; with `sparse`, its gradients contain only the rows that occur."""
        import torch

        layer = torch.nn.Embedding.from_pretrained(torch.tensor(W), freeze=False, sparse=sparse)
        optimizer = self.make(layer.parameters(), rule, sparse)
        for step_tokens, step_grads in zip(tokens, grads):
            optimizer.zero_grad()
            (layer(torch.tensor(step_tokens)) * torch.tensor(step_grads)).sum().backward()
            optimizer.step()
        return layer.weight.detach().numpy()

    def clip(self, grads, theta):
        """Clip the gradients, in place."""
        import torch

        params = [torch.zeros(grad.shape, dtype=torch.float64) for grad in grads.values()]
        for param, grad in zip(params, grads.values()):
            param.grad = torch.tensor(grad)
        torch.nn.utils.clip_grad_norm_(params, theta)
        return {name: param.grad.numpy() for name, param in zip(grads, params)}


class Keras:
    """Keras, on the backend that KERAS_BACKEND names."""

    clipping = "global_clipnorm"
    embeddings = {"keras.layers.Embedding": {}}

    def make(self, rule):
        """Return the optimizer for a rule; RMSprop uses β₂."""
        from keras import optimizers

        if rule.optimizer == "adam":
            betas = rule.beta1, rule.beta2
            return optimizers.AdamW(rule.lr, rule.weight_decay, *betas, rule.epsilon)
        if rule.optimizer == "rmsprop":
            return optimizers.RMSprop(rule.lr, rule.beta2, epsilon=rule.epsilon)
        return optimizers.SGD(rule.lr, rule.beta1, weight_decay=rule.weight_decay or None)

    def train(self, arrays, grads, rules):
        """Return the parameters after the updates."""
        import keras

        params = {name: keras.Variable(array, dtype="float64") for name, array in arrays.items()}
        optimizer = self.make(rules[0])
        for step_grads, rule in zip(grads, rules):
            optimizer.learning_rate = rule.lr
            tensors = [keras.ops.convert_to_tensor(step_grads[name]) for name in params]
            optimizer.apply(tensors, [*params.values()])
        return {name: keras.ops.convert_to_numpy(param) for name, param in params.items()}

    def embed(self, W, tokens, grads, rule):
        """Train an embedding."""
        import keras

        layer = keras.layers.Embedding(*W.shape, dtype="float64")
        model = keras.Sequential([layer])
        model.build(tokens[0].shape)
        layer.set_weights([W])
        model.compile(self.make(rule), lambda factors, outputs: keras.ops.sum(factors * outputs))
        for step_tokens, step_grads in zip(tokens, grads):
            model.train_on_batch(step_tokens, step_grads)
        return layer.get_weights()[0]

    def clip(self, grads, theta):
        """Clip the gradients with an optimizer that subtracts them from zeros."""
        import keras

        variables = [keras.Variable(np.zeros(g.shape), dtype="float64") for g in grads.values()]
        optimizer = keras.optimizers.SGD(1.0, global_clipnorm=theta)
        optimizer.apply([keras.ops.convert_to_tensor(grad) for grad in grads.values()], variables)
        return {n: -keras.ops.convert_to_numpy(values) for n, values in zip(grads, variables)}

    def compute(self, name, *arrays):
        """Return the result of a function, with its dtype."""
        from keras import ops

        tensors = map(ops.convert_to_tensor, arrays)
        return ops.convert_to_numpy(getattr(ops, name)(*tensors))


class TensorFlow:
    """TensorFlow without Keras."""

    clipping = "tf.clip_by_global_norm"

    def clip(self, grads, theta):
        """Clip the gradients."""
        import tensorflow as tf

        clipped, _ = tf.clip_by_global_norm([tf.constant(grad) for grad in grads.values()], theta)
        return {name: array.numpy() for name, array in zip(grads, clipped)}


class MXNet:
    """MXNet, with a Gluon trainer, which adds weight decay to gradients."""

    clipping = "gluon.utils.clip_global_norm"
    embeddings = {"gluon.nn.Embedding": {}}

    def make(self, params, rule):
        """Return the trainer for a rule."""
        from mxnet import gluon

        args = {"learning_rate": rule.lr, "wd": rule.weight_decay}
        if rule.optimizer == "adam":
            args |= {"beta1": rule.beta1, "beta2": rule.beta2, "epsilon": rule.epsilon}
            return gluon.Trainer(params, "adam", args)
        return gluon.Trainer(params, "sgd", {**args, "momentum": rule.beta1})

    def train(self, arrays, grads, rules):
        """Return the parameters after the updates."""
        from mxnet import autograd, gluon, np

        params = {
            name: gluon.Parameter(name, shape=a.shape, dtype=a.dtype) for name, a in arrays.items()
        }
        for name, param in params.items():
            param.initialize("zeros")
            param.set_data(np.array(arrays[name], dtype="float64"))
        trainer = self.make(params, rules[0])
        for step_grads, rule in zip(grads, rules):
            trainer.set_learning_rate(rule.lr)
            with autograd.record():  # a sum whose gradients are `tensors`
                tensors = {n: np.array(grad, dtype="float64") for n, grad in step_grads.items()}
                total = sum((param.data() * tensors[n]).sum() for n, param in params.items())
            total.backward()
            trainer.step(1)
        return {name: param.data().asnumpy() for name, param in params.items()}

    def embed(self, W, tokens, grads, rule):
        """Train an embedding."""
        from mxnet import autograd, gluon, np

        layer = gluon.nn.Embedding(*W.shape, dtype="float64")
        layer.initialize("zeros")
        layer.weight.set_data(np.array(W, dtype="float64"))
        trainer = self.make(layer.collect_params(), rule)
        for step_tokens, step_grads in zip(tokens, grads):
            with autograd.record():
                outputs = layer(np.array(step_tokens, dtype="int64"))
                total = (outputs * np.array(step_grads, dtype="float64")).sum()
            total.backward()
            trainer.step(1)
        return layer.weight.data().asnumpy()

    def clip(self, grads, theta):
        """Clip the gradients in place and in float32, because the function fails in float64."""
        from mxnet import gluon, nd

        arrays = [nd.array(grad, dtype="float32") for grad in grads.values()]
        gluon.utils.clip_global_norm(arrays, theta)
        return {name: array.asnumpy() for name, array in zip(grads, arrays)}


class Optax:
    """Optax, which Flax recommends; its `sgd` has no weight decay."""

    clipping = "optax.clip_by_global_norm"
    embeddings = {"flax.nnx.Embed": {}}

    def make(self, rule, lr):
        """Return the transformation for a rule; `lr` may be a function of the update's index."""
        import optax

        if rule.optimizer == "adam":
            betas = rule.beta1, rule.beta2
            return optax.adamw(lr, *betas, rule.epsilon, weight_decay=rule.weight_decay)
        return optax.sgd(lr, rule.beta1)

    def train(self, arrays, grads, rules):
        """Return the parameters after the updates."""
        import optax

        tensor = partial(registry.load("jax").machine.tensor, device="cpu")  # enables float64
        params = {name: tensor(array) for name, array in arrays.items()}
        rates = tensor(np.array([rule.lr for rule in rules]))
        optimizer = self.make(rules[0], lambda index: rates[index])
        state = optimizer.init(params)
        for step_grads in grads:
            tensors = {name: tensor(grad) for name, grad in step_grads.items()}
            changes, state = optimizer.update(tensors, state, params)
            params = optax.apply_updates(params, changes)
        return {name: np.asarray(param) for name, param in params.items()}

    def embed(self, W, tokens, grads, rule):
        """Train an embedding."""
        import jax.numpy as jnp
        from flax import nnx

        def compute_loss(layer, indices, factors):
            return (layer(indices) * factors).sum()

        layer = nnx.Embed(*W.shape, param_dtype=jnp.float64, dtype=jnp.float64, rngs=nnx.Rngs(0))
        layer.embedding[...] = jnp.array(W)
        optimizer = nnx.Optimizer(layer, self.make(rule, rule.lr), wrt=nnx.Param)
        for pair in zip(tokens, grads):
            optimizer.update(layer, nnx.grad(compute_loss)(layer, *map(jnp.array, pair)))
        return np.asarray(layer.embedding[...])

    def clip(self, grads, theta):
        """Clip the gradients."""
        import jax.numpy as jnp
        import optax

        clip = optax.clip_by_global_norm(theta)
        tensors = {name: jnp.array(grad) for name, grad in grads.items()}
        clipped, _ = clip.update(tensors, clip.init(tensors))
        return {name: np.asarray(array) for name, array in clipped.items()}


class MLX:
    """MLX, on the CPU, the only device with float64."""

    clipping = "mlx.optimizers.clip_grad_norm"
    embeddings = {"mlx.nn.Embedding": {}}

    def make(self, rule):
        """Return the optimizer for a rule, with its defaults otherwise."""
        from mlx import optimizers

        if rule.optimizer == "adam":
            betas = [rule.beta1, rule.beta2]
            return optimizers.AdamW(rule.lr, betas, rule.epsilon, rule.weight_decay)
        return optimizers.SGD(rule.lr, rule.beta1, rule.weight_decay)

    def train(self, arrays, grads, rules):
        """Return the parameters after the updates."""
        import mlx.core as mx

        with mx.stream(mx.cpu):
            params = {name: mx.array(array, mx.float64) for name, array in arrays.items()}
            optimizer = self.make(rules[0])
            for step_grads, rule in zip(grads, rules):
                optimizer.learning_rate = rule.lr
                tensors = {name: mx.array(grad, mx.float64) for name, grad in step_grads.items()}
                params = optimizer.apply_gradients(tensors, params)
            return {name: np.array(param) for name, param in params.items()}

    def embed(self, W, tokens, grads, rule):
        """Train an embedding."""
        import mlx.core as mx
        from mlx import nn

        def compute_loss(layer, indices, factors):
            return (layer(indices) * factors).sum()

        with mx.stream(mx.cpu):
            layer, optimizer = nn.Embedding(*W.shape), self.make(rule)
            layer.weight = mx.array(W, mx.float64)
            for step_tokens, step_grads in zip(tokens, grads):
                pair = mx.array(step_tokens), mx.array(step_grads, mx.float64)
                _, layer_grads = nn.value_and_grad(layer, compute_loss)(layer, *pair)
                optimizer.update(layer, layer_grads)
            return np.array(layer.weight)

    def clip(self, grads, theta):
        """Clip the gradients."""
        import mlx.core as mx
        from mlx.optimizers import clip_grad_norm

        with mx.stream(mx.cpu):
            tensors = {name: mx.array(grad, mx.float64) for name, grad in grads.items()}
            clipped, _ = clip_grad_norm(tensors, theta)
            return {name: np.array(array) for name, array in clipped.items()}

    def compute(self, name, *arrays):
        """Return the result of a function, with its dtype."""
        import mlx.core as mx

        with mx.stream(mx.cpu):
            return np.array(getattr(mx, name)(*(mx.array(a, mx.float64) for a in arrays)))
