"""A recurrent language model from scratch in NumPy, differentiated by hand.

Sizes: B batch, T time steps, V vocabulary, H hidden units, N learnable embedding.
"""

import numpy as np

from rnn_scratch.contract import bind

from .machine import array, tensor, to_arrays


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V), b_q (V,); or W_e, W_xh (N, H)."""
    return {name: values.astype(options.dtype) for name, values in arrays.items()}


def state(batch_size, options):
    """The state before the first token: a tuple with zeros (B, H)."""
    return (tensor(np.zeros((batch_size, options.num_hiddens), options.dtype), options.device),)


def encode(tokens, params):
    """One-hot vectors, tokens (...) to (..., V); or rows of a learnable embedding, (..., N)."""
    if "W_e" in params:
        return params["W_e"][tokens]
    b_q = params["b_q"]
    return np.eye(len(b_q), dtype=b_q.dtype)[tokens]


def activation(z, options):
    """Hyperbolic tangent or ReLU."""
    return np.tanh(z) if options.activation == "tanh" else np.maximum(z, 0)


def rnn(x, state, params, options):
    """The recurrent cell: x (B, V), or (B, N), and a state to the next state."""
    (H,) = state
    H = activation(x @ params["W_xh"] + H @ params["W_hh"] + params["b_h"], options)  # (B, H)
    return (H,)


def rnn_back(d_after, after, x, before, params, options):
    """Its backward pass: gradients of x, of the state before, and of the cell's parameters."""
    (d_H,), (H,), (H_before,) = d_after, after, before
    dz = d_H * (1 - H * H if options.activation == "tanh" else H > 0)  # (B, H)
    grads = {"W_xh": x.T @ dz, "W_hh": H_before.T @ dz, "b_h": dz.sum(0)}
    return dz @ params["W_xh"].T, (dz @ params["W_hh"].T,), grads


CELLS = {"rnn": rnn}
CELLS_BACK = {"rnn": rnn_back}


def step(x, state, params, options):
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state."""
    state = CELLS[options.cell](x, state, params, options)
    return state[0] @ params["W_hq"] + params["b_q"], state


def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    outputs = []
    for x in encode(tokens.T, params):  # T times (B, V)
        logits, state = step(x, state, params, options)
        outputs.append(logits)
    return np.concatenate(outputs), state


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the logits' order
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


def loss_back(logits, targets):
    """Its backward pass: the gradient of the logits, softmax minus one-hot over T*B."""
    labels = targets.T.reshape(-1)  # (T*B,)
    d_logits = np.exp(log_softmax(logits))  # (T*B, V)
    d_logits[np.arange(len(labels)), labels] -= 1
    return d_logits / len(labels)


def log_softmax(logits):
    """Logarithms of the probabilities: (T*B, V) to (T*B, V)."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    return state  # an array has no history


def gradients(model, X, Y, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, and the detached state."""
    return model.backward(X, Y, state)  # NumPy does not differentiate


def backward(X, Y, state, params, options):
    """Backpropagation through time, for any cell: what `gradients` returns."""
    inputs, states, outputs = encode(X.T, params), [state], []  # inputs (T, B, V)
    for x in inputs:
        logits, state = step(x, state, params, options)
        outputs.append(logits)
        states.append(state)
    logits = np.concatenate(outputs)  # (T*B, V)
    d_outputs = np.split(loss_back(logits, Y), len(inputs))  # T times (B, V)
    grads = {name: np.zeros_like(param) for name, param in params.items()}
    d_state = tuple(np.zeros_like(s) for s in state)
    for t in reversed(range(len(inputs))):
        # The output layer first. Its gradient is added to that from the next step.
        grads["W_hq"] += states[t + 1][0].T @ d_outputs[t]
        grads["b_q"] += d_outputs[t].sum(0)
        d_state = (d_state[0] + d_outputs[t] @ params["W_hq"].T, *d_state[1:])
        d_x, d_state, cell_grads = CELLS_BACK[options.cell](
            d_state, states[t + 1], inputs[t], states[t], params, options
        )
        for name, grad in cell_grads.items():
            grads[name] += grad
        if "W_e" in params:
            np.add.at(grads["W_e"], X[:, t], d_x)
    return loss(logits, Y), grads, detach(state)


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
    """One update of the parameters from X, Y (B, T): its loss, and the detached state."""
    mean, grads, state = gradients(model, X, Y, state)
    grads, _ = clip(grads, how.theta)
    update(model.params, grads, how.lr, how.grid)
    return mean, state


def train_epoch(model, minibatches, how, carry):
    """One pass over the minibatches: the loss of each, and the last state."""
    losses, state = [], None
    for X, Y in minibatches:
        if state is None or not carry:
            state = model.state(len(X))
        X, Y = tensor(X, model.options.device), tensor(Y, model.options.device)
        mean, state = train_minibatch(model, X, Y, state, how)
        losses.append(mean)
    return [float(mean) for mean in losses], state  # read at the end: a GPU need not wait


def evaluate(model, minibatches, carry):
    """Summed loss and number of tokens, without training."""
    summed, num_tokens, state = 0.0, 0, None
    for X, Y in minibatches:
        if state is None or not carry:
            state = model.state(len(X))
        logits, state = model.forward(tensor(X, model.options.device), state)
        summed += float(loss(logits, tensor(Y, model.options.device))) * X.size
        num_tokens += X.size
    return summed, num_tokens


def predict(model, prefix, num_preds, choose):
    """The prefix and num_preds tokens after it, each picked by `choose` from the logits (V,)."""
    state, outputs = model.state(1), [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = tensor(np.array([outputs[-1:]]), model.options.device)  # (B, T) = (1, 1)
        logits, state = model.forward(token, state)
        # Warm-up: as long as the prefix lasts, the next token is the prefix's own.
        outputs.append(prefix[t] if t < len(prefix) else choose(array(logits)[0]))
    return outputs


def build(arrays, options):
    """The plain model, with parameters that start at these arrays."""
    return bind(params(arrays, options), options, forward, state, to_arrays, backward)
