"""A recurrent language model from scratch in NumPy, differentiated by hand.

Sizes: B batch size, T number of time steps, V vocabulary size, H number of hidden units,
N numbers in a learnable embedding.
"""

import numpy as np

from rnn_scratch.contract import Model

from .machine import array, tensor


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V), b_q (V,); or W_e, W_xh (N, H)."""
    return {name: values.astype(options.dtype) for name, values in arrays.items()}


def state(batch_size, num_hiddens, options):
    """The hidden state before the first token: a tuple with zeros (B, H)."""
    return (np.zeros((batch_size, num_hiddens), options.dtype),)


def encode(tokens, params):
    """One-hot vectors, tokens (...) to (..., V); or rows of a learnable embedding, (..., N)."""
    if "W_e" in params:
        return params["W_e"][tokens]
    W_xh = params["W_xh"]
    return np.eye(len(W_xh), dtype=W_xh.dtype)[tokens]


def step(x, state, params, options):
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state."""
    (H,) = state
    H = _activation(x @ params["W_xh"] + H @ params["W_hh"] + params["b_h"], options)  # (B, H)
    return H @ params["W_hq"] + params["b_q"], (H,)


def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    hiddens = _hiddens(tokens, state, params, options)  # (T+1, B, H)
    outputs = hiddens[1:].reshape(-1, hiddens.shape[2])  # (T*B, H)
    # A copy, because a view would keep all hidden states alive.
    return outputs @ params["W_hq"] + params["b_q"], (hiddens[-1].copy(),)


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the logits' order
    return -_log_softmax(logits)[np.arange(len(labels)), labels].mean()


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    return state  # an array has no history


def gradients(model, X, Y, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, the state carried on."""
    # NumPy does not differentiate: the model brings its own way back.
    return model.backward(X, Y, state, model.params, model.options)


def backward(X, Y, state, params, options):
    """Backpropagation through time: what `gradients` gives, for the model of this file."""
    hiddens = _hiddens(X, state, params, options)  # (T+1, B, H)
    T, B, H = hiddens[1:].shape
    before, after = hiddens[:-1].reshape(-1, H), hiddens[1:].reshape(-1, H)  # (T*B, H)
    log_probs = _log_softmax(after @ params["W_hq"] + params["b_q"])  # (T*B, V)
    labels, rows = Y.T.reshape(-1), np.arange(T * B)
    mean = -log_probs[rows, labels].mean()

    # Back through the loss, whose gradient is softmax minus one-hot, and the output layer.
    d_logits = np.exp(log_probs)  # (T*B, V)
    d_logits[rows, labels] -= 1
    d_logits /= T * B
    d_after = (d_logits @ params["W_hq"].T).reshape(T, B, H)

    # dz, the gradient before the activation, comes from the loss and from the next step.
    dz = _slope(hiddens[1:], options)  # (T, B, H), in place from here on
    dz[-1] *= d_after[-1]
    for t in reversed(range(T - 1)):
        dz[t] *= d_after[t] + dz[t + 1] @ params["W_hh"].T  # (B, H)
    dz = dz.reshape(-1, H)  # (T*B, H)
    grads = {
        "W_xh": encode(X.T.reshape(-1), params).T @ dz,
        "W_hh": before.T @ dz,  # all time steps in one product
        "b_h": dz.sum(0),
        "W_hq": after.T @ d_logits,
        "b_q": d_logits.sum(0),
    }
    if "W_e" in params:  # its rows were the inputs
        one_hot = np.eye(len(params["W_e"]), dtype=dz.dtype)[X.T.reshape(-1)]  # (T*B, V)
        grads = {"W_e": one_hot.T @ (dz @ params["W_xh"].T), **grads}
    return mean, grads, detach((hiddens[-1].copy(),))


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    norm = np.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    if theta is None:
        return grads, norm
    scale = theta / np.maximum(norm, theta)  # the same as min(1, theta/norm), and never 1/0
    return {name: grad * scale for name, grad in grads.items()}, norm


def update(params, grads, lr, grid):
    """Plain gradient descent in place; in exact mode each step is rounded to the grid."""
    for name, param in params.items():
        change = lr * grads[name]
        if grid is not None:
            change = np.round(change / grid) * grid
        param -= change


def train_minibatch(model, X, Y, state, how):
    """One update of the parameters from X, Y (B, T): loss, and the state carried on."""
    mean, grads, state = gradients(model, X, Y, state)
    grads, _ = clip(grads, how.theta)
    update(model.params, grads, how.lr, how.grid)
    return mean, state


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
    return Model(tensors, num_hiddens, state, forward, _to_arrays, options, backward)


def _to_arrays(params):
    return {name: array(param).copy() for name, param in params.items()}


def _table(params):
    # What each token adds before the activation, (V, H): one_hot @ W_xh, or one_hot @ W_e @ W_xh.
    return params["W_e"] @ params["W_xh"] if "W_e" in params else params["W_xh"]


def _hiddens(tokens, state, params, options):
    # Tokens (B, T) to hidden states (T+1, B, H), the first of which is the state that comes in.
    table = _table(params) + params["b_h"]  # the bias is added to V rows instead of T*B
    hiddens = np.empty((tokens.shape[1] + 1, *state[0].shape), state[0].dtype)
    hiddens[0] = state[0]
    for t, x in enumerate(tokens.T):
        hiddens[t + 1] = _activation(table[x] + hiddens[t] @ params["W_hh"], options)  # (B, H)
    return hiddens


def _activation(z, options):
    # In place: nothing else needs z.
    return np.tanh(z, out=z) if options.activation == "tanh" else np.maximum(z, 0, out=z)


def _slope(h, options):
    # The derivative of the activation, from its value.
    return 1 - h * h if options.activation == "tanh" else (h > 0).astype(h.dtype)


def _log_softmax(logits):
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
