"""A recurrent language model from scratch in TensorFlow, differentiated by a gradient tape.

Sizes: B batch size, T number of time steps, V vocabulary size, H number of hidden units,
N numbers in a learnable embedding.
"""

import numpy as np
import tensorflow as tf

from rnn_scratch.contract import Model

from .machine import array, compiled, on, on_its_device, product, rows, shared, tensor


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V), b_q (V,); or W_e, W_xh (N, H)."""
    with on(options.device):
        return {name: tf.Variable(values.astype(options.dtype)) for name, values in arrays.items()}


def state(batch_size, num_hiddens, options):
    """The hidden state before the first token: a tuple with zeros (B, H)."""
    with on(options.device):
        return (tf.zeros((batch_size, num_hiddens), options.dtype),)


def encode(tokens, params):
    """One-hot vectors, tokens (...) to (..., V); or rows of a learnable embedding, (..., N)."""
    if "W_e" in params:
        return tf.gather(params["W_e"], tokens)
    W_xh = params["W_xh"]
    return tf.one_hot(tokens, W_xh.shape[0], dtype=W_xh.dtype)


def step(x, state, params, options):
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state."""
    (H,) = state
    H = _activation(x @ params["W_xh"] + H @ params["W_hh"] + params["b_h"], options)  # (B, H)
    return H @ params["W_hq"] + params["b_q"], (H,)


@compiled  # by tf.function, for each shape of tokens, the loop over time unrolled
def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    (H,) = state
    # The bias is added to V rows instead of T*B.
    inputs = rows(_table(params) + params["b_h"], tf.transpose(tokens))  # (T, B, H)
    hiddens = _recurrence(inputs, H, tf.convert_to_tensor(params["W_hh"]), options)  # (T, B, H)
    outputs = _flat(hiddens)  # (T*B, H)
    return outputs @ params["W_hq"] + params["b_q"], (hiddens[-1],)


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = tf.reshape(tf.transpose(targets), [-1])  # (T*B,), in the logits' order
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    # The next minibatch would not notice: it has a tape of its own, which never saw this one.
    return tuple(tf.stop_gradient(s) for s in state)


def gradients(model, X, Y, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, the state carried on."""
    with tf.GradientTape() as tape:
        logits, state = model.forward(X, state, model.params, model.options)
        mean = loss(logits, Y)
    grads = tape.gradient(mean, model.params)
    # Dense: where a layer gathers rows, the gradient is sparse, a row for every use of one.
    grads = {name: tf.convert_to_tensor(grad) for name, grad in grads.items()}
    return mean, grads, detach(state)


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    # Not clip_by_global_norm, which would take a sparse gradient's norm before its rows are summed.
    norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for grad in grads.values()))
    if theta is None:
        return grads, norm
    scale = theta / tf.maximum(norm, theta)  # the same as min(1, theta/norm), and never 1/0
    return {name: grad * scale for name, grad in grads.items()}, norm


def update(params, grads, lr, grid):
    """Plain gradient descent in place; in exact mode each step is rounded to the grid."""
    for name, param in params.items():
        change = lr * grads[name]
        if grid is not None:
            change = tf.round(change / grid) * grid
        param.assign_sub(change)


@compiled  # all of an update as one graph
def train_minibatch(model, X, Y, state, how):
    """One update of the parameters from X, Y (B, T): loss, and the state carried on."""
    mean, grads, state = gradients(model, X, Y, state)
    grads, _ = clip(grads, how.theta)
    update(model.params, grads, how.lr, how.grid)
    return mean, state


@on_its_device  # TensorFlow would choose a GPU over the CPU that the tensors are on
def train_epoch(model, minibatches, how, carry):
    """One pass over the minibatches: summed loss, number of tokens, last state."""
    losses, num_tokens, state = [], 0, None
    for X, Y in minibatches:
        if state is None or not carry:
            state = model.state(len(X), model.num_hiddens, model.options)
        tokens, targets = tensor(X, model.options.device), tensor(Y, model.options.device)
        mean, state = train_minibatch(model, tokens, targets, state, how)
        losses.append((mean, X.size))
        num_tokens += X.size
    return sum(float(mean) * size for mean, size in losses), num_tokens, state


@on_its_device
def evaluate(model, minibatches, carry):
    """Summed loss and number of tokens, without training."""
    losses, num_tokens, state = [], 0, None
    for X, Y in minibatches:
        if state is None or not carry:
            state = model.state(len(X), model.num_hiddens, model.options)
        tokens, targets = tensor(X, model.options.device), tensor(Y, model.options.device)
        logits, state = model.forward(tokens, state, model.params, model.options)
        losses.append((loss(logits, targets), X.size))
        num_tokens += X.size
    return sum(float(mean) * size for mean, size in losses), num_tokens


@on_its_device
def predict(model, prefix, num_preds, choose):
    """The prefix and num_preds tokens after it, each picked by `choose` from the logits (V,)."""
    state = model.state(1, model.num_hiddens, model.options)
    outputs = [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = tensor(np.array([outputs[-1:]]), model.options.device)  # (B, T) = (1, 1)
        logits, state = model.forward(token, state, model.params, model.options)
        # Warm-up: while the prefix lasts, the next token is the prefix's own.
        outputs.append(prefix[t] if t < len(prefix) else choose(array(logits)[0]))
    return outputs


def scratch(arrays, options):
    """The model of this file, with parameters that start at `arrays`."""
    tensors, num_hiddens = params(arrays, options), len(arrays["W_hh"])
    return Model(tensors, num_hiddens, state, forward, _to_arrays, options)


def _to_arrays(params):
    return {name: array(param).copy() for name, param in params.items()}


def _table(params):
    # What each token adds before the activation, (V, H): one_hot @ W_xh, or one_hot @ W_e @ W_xh.
    return params["W_e"] @ params["W_xh"] if "W_e" in params else params["W_xh"]


def _recurrence(inputs, H, W_hh, options):
    # Inputs (T, B, H) and the state before them (B, H) to all hidden states (T, B, H). The way back
    # is by hand: the tape would multiply for the gradient of W_hh at every time step, not once.
    @tf.custom_gradient
    def recurrence(inputs, H, W_hh):
        # Of a single step, when text is generated, sharing out would cost more than it gains.
        columns = shared(W_hh, options.device) if inputs.shape[0] > 1 else [W_hh]
        hiddens = [H]
        for x in tf.unstack(inputs):
            hiddens.append(_activation(x + product(hiddens[-1], columns), options))  # (B, H)
        hiddens = tf.stack(hiddens)  # (T+1, B, H)

        def backward(d_hiddens):
            # dz, the gradient before the activation, comes from the loss and from the next step.
            columns = shared(tf.einsum("ij->ji", W_hh), options.device)  # not folded into products
            ds, slopes = tf.unstack(d_hiddens), tf.unstack(_slope(hiddens[1:], options))
            dz = [ds[-1] * slopes[-1]]
            for d, s in zip(reversed(ds[:-1]), reversed(slopes[:-1])):
                dz.append((d + product(dz[-1], columns)) * s)  # (B, H)
            d_H, dz = product(dz[-1], columns), tf.stack(dz[::-1])  # (B, H), (T, B, H)
            before, columns = _flat(hiddens[:-1]), shared(_flat(dz), options.device)
            return dz, d_H, product(tf.transpose(before), columns)  # all steps in one product

        return hiddens[1:], backward

    return recurrence(inputs, H, W_hh)


def _flat(x):
    return tf.reshape(x, (-1, x.shape[-1]))  # (T, B, H) to (T*B, H)


def _activation(z, options):
    return tf.tanh(z) if options.activation == "tanh" else tf.nn.relu(z)


def _slope(h, options):
    # The derivative of the activation, from its value.
    return 1 - h * h if options.activation == "tanh" else tf.cast(h > 0, h.dtype)
