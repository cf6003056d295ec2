"""A recurrent language model from scratch in NumPy, differentiated by hand.

Begin at `step`. `options` are the kind and sizes of a network, `model` is its parameters and the
functions that use them, `how` settings of training. B batch, T steps, V vocabulary, H hidden units.
"""

import numpy as np

from rnn_scratch.contract import bind

from .machine import array, tensor, to_arrays


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,) of the cell; W_hq (H, V), b_q (V,)."""
    return {name: values.astype(options.dtype) for name, values in arrays.items()}


def state(batch_size, options):
    """The state before the first token: zeros (B, H)."""
    zeros = np.zeros((batch_size, options.num_hiddens), options.dtype)
    return tuple(tensor(zeros.copy(), options.device) for _ in range(options.num_states))


def encode(tokens, params):
    """One-hot vectors: tokens (...) to (..., V)."""
    return np.eye(len(params["b_q"]), dtype=params["b_q"].dtype)[tokens]


def rnn(x, state, params):
    """The recurrent cell: x (B, V) and a state to the next state."""
    (h,) = state
    h = np.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])  # (B, H)
    return (h,)


def rnn_back(d_after, after, x, before, params):
    """Its backward pass: gradients of x, of the state before, and of the cell's parameters."""
    (d_h,), (h,), (h_before,) = d_after, after, before
    dz = d_h * (1 - h * h)  # times the slope of tanh
    grads = {"W_xh": x.T @ dz, "W_hh": h_before.T @ dz, "b_h": dz.sum(0)}
    return dz @ params["W_xh"].T, (dz @ params["W_hh"].T,), grads


CELLS = {"rnn": rnn}
CELLS_BACK = {"rnn": rnn_back}


def step(x, state, params, options):
    """One time step: x (B, V) to logits (B, V), and the new state."""
    state = CELLS[options.cell](x, state, params)
    return state[0] @ params["W_hq"] + params["b_q"], state


def step_back(d_logits, d_after, after, x, before, params, options):
    """Its backward pass, output layer first: gradients of the state before and of parameters."""
    grads = {"W_hq": after[0].T @ d_logits, "b_q": d_logits.sum(0)}
    d_h, *others = d_after  # from the next time step
    d_after = d_h + d_logits @ params["W_hq"].T, *others
    _, d_before, of_cell = CELLS_BACK[options.cell](d_after, after, x, before, params)
    return d_before, grads | of_cell


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


def gradients(model, batch, state):
    """Loss of a minibatch, the gradient of each parameter, and the detached state."""
    return model.backward(batch, state)  # NumPy does not differentiate


def backward(batch, state, params, options):
    """What `gradients` returns, by a backward pass written by hand."""
    inputs = encode(batch.X.T, params)  # (T, B, V)
    return through_time(step, step_back, inputs, batch.Y, state, params, options)


def through_time(step, step_back, inputs, targets, state, params, options):
    """Backpropagation through time, of any step and its backward pass: what `gradients` returns."""
    states, outputs = [state], []
    for x in inputs:
        logits, state = step(x, state, params, options)
        outputs.append(logits)
        states.append(state)
    logits = np.concatenate(outputs)  # (T*B, V)
    d_outputs = np.split(loss_back(logits, targets), len(inputs))  # T times (B, V)
    grads = {name: np.zeros_like(param) for name, param in params.items()}
    d_state = tuple(np.zeros_like(s) for s in state)
    for t in reversed(range(len(inputs))):
        arguments = d_outputs[t], d_state, states[t + 1], inputs[t], states[t], params, options
        d_state, of_step = step_back(*arguments)
        for name, grad in of_step.items():
            grads[name] += grad
    return loss(logits, targets), grads, detach(state)


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    norm = np.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    scale = np.minimum(theta / norm, 1)
    return {name: grad * scale for name, grad in grads.items()}, norm


def rounded(values, grid):
    """The nearest multiples of the grid, a half to the even one; without a grid, the values."""
    return values if grid is None else np.round(values / grid) * grid


def sgd(model, grads, how, rates):
    """One step of gradient descent, in place; in exact mode rounded to a grid."""
    for name, param in model.params.items():
        param -= rounded(rates.lr * grads[name], how.grid)


OPTIMIZERS = {"sgd": sgd}


def train_minibatch(model, batch, state, how):
    """One update from X, Y (B, T): its loss, and the detached state, rounded in exact mode."""
    mean, grads, state = gradients(model, batch, state)
    grads, _ = clip(grads, how.theta)
    OPTIMIZERS[how.optimizer](model, grads, how, batch.rates)
    return mean, tuple(rounded(each, how.state_grid) for each in state)


def train_epoch(model, minibatches, how, carry, state=None):
    """One pass over the minibatches, from a state or zeros: each loss, and the last state."""
    losses = []
    for batch in minibatches:
        if state is None or not carry:
            state = model.state(len(batch.X))
        batch = batch.map(tensor, model.options.device)
        mean, state = train_minibatch(model, batch, state, how)
        losses.append(mean)
    return [float(mean) for mean in losses], state  # read at the end: a GPU need not wait


def predict(model, prefix, num_preds, choose):
    """The prefix and num_preds tokens after it, each picked by `choose` from the logits (V,)."""
    state, outputs = model.state(1), [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = tensor(np.array([outputs[-1:]], "int64"), model.options.device)  # B = T = 1
        logits, state = model.forward(token, state)
        # Warm-up: as long as the prefix lasts, the next token is the prefix's own.
        outputs.append(prefix[t] if t < len(prefix) else choose(array(logits)[0]))
    return outputs


def build(arrays, options):
    """The plain model, with parameters that start at these arrays."""
    return bind(params(arrays, options), options, forward, state, to_arrays, backward)
