"""A recurrent language model from scratch in PyTorch, differentiated by autograd.

Begin at `step`. `options` are the kind and sizes of a network, `model` is its parameters and the
functions that use them, `how` settings of training. B batch, T steps, V vocabulary, H hidden units.
"""

import numpy as np
import torch
from torch.nn import functional as F

from rnn_scratch.contract import bind

from .machine import array, tensor, to_arrays


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,) of the cell; W_hq (H, V), b_q (V,)."""
    where = {"dtype": getattr(torch, options.dtype), "device": options.device}
    return {
        name: torch.tensor(values, **where, requires_grad=True) for name, values in arrays.items()
    }


def state(batch_size, options):
    """The state before the first token: zeros (B, H)."""
    zeros = np.zeros((batch_size, options.num_hiddens), options.dtype)
    return tuple(tensor(zeros.copy(), options.device) for _ in range(options.num_states))


def encode(tokens, params):
    """One-hot vectors: tokens (...) to (..., V)."""
    return F.one_hot(tokens, len(params["b_q"])).to(params["b_q"].dtype)


def rnn(x, state, params):
    """The recurrent cell: x (B, V) and a state to the next state."""
    (h,) = state
    h = torch.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])  # (B, H)
    return (h,)


CELLS = {"rnn": rnn}


def step(x, state, params, options):
    """One time step: x (B, V) to logits (B, V), and the new state."""
    state = CELLS[options.cell](x, state, params)
    return state[0] @ params["W_hq"] + params["b_q"], state


def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    outputs = []
    for x in encode(tokens.T, params):  # T times (B, V)
        logits, state = step(x, state, params, options)
        outputs.append(logits)
    return torch.cat(outputs), state


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the logits' order
    return F.cross_entropy(logits, labels)


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    return tuple(s.detach() for s in state)  # or the next backward pass meets a freed graph


def gradients(model, batch, state):
    """Loss of a minibatch, the gradient of each parameter, and the detached state."""
    logits, state = model.forward(batch.inputs, state)
    mean = loss(logits, batch.Y)
    grads = torch.autograd.grad(mean, list(model.params.values()))
    return mean.detach(), dict(zip(model.params, grads)), detach(state)


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    # Not clip_grad_norm_, which divides by norm + 1e-6.
    norm = torch.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    scale = torch.clamp(theta / norm, max=1)
    return {name: grad * scale for name, grad in grads.items()}, norm


def rounded(values, grid):
    """The nearest multiples of the grid, a half to the even one; without a grid, the values."""
    return values if grid is None else torch.round(values / grid) * grid


@torch.no_grad()
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


@torch.no_grad()  # or the graph would grow with every generated token
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
    return bind(params(arrays, options), options, forward, state, to_arrays)
