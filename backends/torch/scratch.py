"""A recurrent language model from scratch in PyTorch, differentiated by autograd.

Sizes: B batch size, T number of time steps, V vocabulary size, H number of hidden units,
N numbers in a learnable embedding.
"""

import numpy as np
import torch
from torch.nn import functional as F

from rnn_scratch.contract import Model

from .machine import array, tensor


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V), b_q (V,); or W_e, W_xh (N, H)."""
    dtype = getattr(torch, options.dtype)
    tensors = {n: torch.tensor(a, dtype=dtype, device=options.device) for n, a in arrays.items()}
    # By columns, as a layer keeps its weights: the product for their gradient takes half the time.
    tensors["W_hq"] = tensors["W_hq"].T.contiguous().T
    return {name: param.requires_grad_() for name, param in tensors.items()}


def state(batch_size, num_hiddens, options):
    """The hidden state before the first token: a tuple with zeros (B, H)."""
    dtype = getattr(torch, options.dtype)
    return (torch.zeros((batch_size, num_hiddens), dtype=dtype, device=options.device),)


def encode(tokens, params):
    """One-hot vectors, tokens (...) to (..., V); or rows of a learnable embedding, (..., N)."""
    if "W_e" in params:
        return F.embedding(tokens, params["W_e"])
    W_xh = params["W_xh"]
    return F.one_hot(tokens, len(W_xh)).to(W_xh.dtype)


def step(x, state, params, options):
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state."""
    (H,) = state
    H = _activation(x @ params["W_xh"] + H @ params["W_hh"] + params["b_h"], options)  # (B, H)
    return H @ params["W_hq"] + params["b_q"], (H,)


def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    (H,) = state
    # The bias is added to V rows instead of T*B. F.embedding gathers rows as an index does, but
    # their gradients are summed several times faster.
    inputs = F.embedding(tokens.T, _table(params) + params["b_h"])  # (T, B, H)
    hiddens = _Recurrence.apply(inputs, H, params["W_hh"], options)  # (T, B, H)
    outputs = hiddens.flatten(0, 1)  # (T*B, H)
    return torch.addmm(params["b_q"], outputs, params["W_hq"]), (hiddens[-1],)


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the logits' order
    return F.cross_entropy(logits, labels)


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    # Carried on with it, the next minibatch would go back through a graph that is already freed.
    return tuple(s.detach() for s in state)


def gradients(model, X, Y, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, the state carried on."""
    logits, state = model.forward(X, state, model.params, model.options)
    mean = loss(logits, Y)
    grads = torch.autograd.grad(mean, list(model.params.values()))
    return mean.detach(), dict(zip(model.params, grads)), detach(state)


@torch.no_grad()
def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    # Not clip_grad_norm_, which divides by norm + 1e-6.
    norm = torch.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    if theta is None:
        return grads, norm
    scale = theta / norm.clamp(min=theta)  # the same as min(1, theta/norm), and never 1/0
    return {name: grad * scale for name, grad in grads.items()}, norm


@torch.no_grad()
def update(params, grads, lr, grid):
    """Plain gradient descent in place; in exact mode each step is rounded to the grid."""
    for name, param in params.items():
        change = lr * grads[name]
        if grid is not None:
            change = torch.round(change / grid) * grid
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


@torch.no_grad()  # no graph is needed
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


@torch.no_grad()  # or the graph would grow with every generated token
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


class _Recurrence(torch.autograd.Function):
    # Inputs (T, B, H) and the state before them (B, H) to all hidden states (T, B, H). The way back
    # is by hand: autograd would multiply for the gradient of W_hh at every time step, not once.

    @staticmethod
    def forward(ctx, inputs, H, W_hh, options):
        # In place each input becomes a hidden state: fresh memory costs more than the additions.
        hiddens, h = inputs, H
        W = W_hh.T.contiguous().T if len(inputs) > 1 else W_hh  # by columns products are faster
        for z in hiddens.unbind():
            h = _activation(z.addmm_(h, W), options)  # (B, H)
        ctx.mark_dirty(hiddens)
        ctx.save_for_backward(hiddens, H, W_hh)
        ctx.options = options
        return hiddens

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_hiddens):
        # dz, the gradient before the activation, comes from the loss and from the next step.
        hiddens, H, W_hh = ctx.saved_tensors
        dz = _slope(hiddens, ctx.options)  # (T, B, H), in place from here on
        dz[-1].mul_(d_hiddens[-1])
        for t in reversed(range(len(dz) - 1)):
            dz[t].mul_(torch.addmm(d_hiddens[t], dz[t + 1], W_hh.T))  # (B, H)
        d_W_hh = hiddens[:-1].flatten(0, 1).T @ dz[1:].flatten(0, 1)  # all but the first step's
        d_W_hh += H.T @ dz[0]
        d_H = dz[0] @ W_hh.T if ctx.needs_input_grad[1] else None
        return dz, d_H, d_W_hh, None


def _activation(z, options):
    # In place, as the underscores say: nothing else needs z.
    return torch.tanh_(z) if options.activation == "tanh" else torch.relu_(z)


def _slope(h, options):
    # The derivative of the activation, from its value.
    return 1 - h * h if options.activation == "tanh" else (h > 0).to(h.dtype)
