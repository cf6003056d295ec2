"""The model of ``scratch``, optimized by hand.

It computes the same numbers, up to rounding. Each optimization has a name, under which a comment
below gives its reason and what it gains: the time of a training minibatch without it relative to
the time with it, with 64 and with 512 hidden units (B 32, T 35, V 28, float32, one thread).
"""

import numpy as np

from rnn_scratch.contract import bind

from . import scratch
from .machine import to_arrays


def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    hiddens = recurrence(tokens, state, params, options)  # (T+1, B, H)
    # One output layer: it does not feed back, so one product can serve all time steps.
    # Gain: 1.13, 1.02.
    outputs = hiddens[1:].reshape(-1, hiddens.shape[2])  # (T*B, H)
    # The state is a copy, because a view would keep all hidden states in memory.
    return outputs @ params["W_hq"] + params["b_q"], (hiddens[-1].copy(),)


def recurrence(tokens, state, params, options):
    """Tokens (B, T) to hidden states (T+1, B, H), the first of which is the given state."""
    inputs = rows(tokens.T, params)
    hiddens = np.empty((tokens.shape[1] + 1, *state[0].shape), state[0].dtype)
    hiddens[0] = state[0]
    for t, x in enumerate(inputs):
        hiddens[t + 1] = activation(x + hiddens[t] @ params["W_hh"], options)  # (B, H)
    return hiddens


def rows(tokens, params):
    """Rows of W_xh, or of W_e W_xh, for the tokens, and b_h added: tokens (...) to (..., H)."""
    # Rows instead of products: a one-hot vector times a matrix is one of the matrix's rows.
    # Gain: 1.03, 1.01.
    W_xh, b_h = params["W_xh"], params["b_h"]
    if tokens.size < len(params["b_q"]):  # fewer tokens than rows: a step of generating text
        return (params["W_e"][tokens] @ W_xh if "W_e" in params else W_xh[tokens]) + b_h
    # Bias in the table: it is added to V rows instead of T*B.
    # Gain: 1.03, 0.99.
    return ((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h)[tokens]


def rows_back(d_rows, tokens, size):
    """Its backward pass: the sum of the rows of each token, (T*B, H) and (T*B,) to (size, H)."""
    if size <= 100:  # of a small vocabulary a product with one-hot vectors is faster
        return np.eye(size, dtype=d_rows.dtype)[tokens].T @ d_rows
    # Sums of sorted rows: with 5,000 characters that product takes a quarter of a minibatch's time.
    # Gain with 5,000 characters: 1.60, 1.36.
    order = np.argsort(tokens, kind="stable")
    labels, first = np.unique(tokens[order], return_index=True)
    d_table = np.zeros((size, d_rows.shape[1]), d_rows.dtype)
    d_table[labels] = np.add.reduceat(d_rows[order], first)
    return d_table


def backward(X, Y, state, params, options):
    """Backpropagation through time: what `gradients` returns."""
    hiddens = recurrence(X, state, params, options)  # (T+1, B, H)
    T, B, H = hiddens[1:].shape
    before, after = hiddens[:-1].reshape(-1, H), hiddens[1:].reshape(-1, H)  # (T*B, H)
    logits = after @ params["W_hq"] + params["b_q"]  # (T*B, V)
    d_logits = scratch.loss_back(logits, Y)
    d_after = (d_logits @ params["W_hq"].T).reshape(T, B, H)

    # In place: dz, the gradient before the activation, is written over the activation's slope.
    # Gain: 1.00, 1.00.
    dz = slope(hiddens[1:], options)  # (T, B, H)
    dz[-1] *= d_after[-1]
    for t in reversed(range(T - 1)):
        dz[t] *= d_after[t] + dz[t + 1] @ params["W_hh"].T  # (B, H)
    dz = dz.reshape(-1, H)  # (T*B, H)
    # One product per gradient: the sum over time is part of a matrix product over T*B rows.
    # Gain: 1.05, 1.21.
    d_table = rows_back(dz, X.T.reshape(-1), len(params["b_q"]))  # (V, H)
    grads = {
        "W_xh": d_table,
        "W_hh": before.T @ dz,
        "b_h": dz.sum(0),
        "W_hq": after.T @ d_logits,
        "b_q": d_logits.sum(0),
    }
    if "W_e" in params:
        d_embedding = {"W_e": d_table @ params["W_xh"].T, "W_xh": params["W_e"].T @ d_table}
        grads = {**d_embedding, **{n: g for n, g in grads.items() if n not in d_embedding}}
    return scratch.loss(logits, Y), grads, (hiddens[-1].copy(),)


def activation(z, options):
    """Hyperbolic tangent or ReLU, in place: nothing else needs z."""
    return np.tanh(z, out=z) if options.activation == "tanh" else np.maximum(z, 0, out=z)


def slope(h, options):
    """The derivative of the activation, from its value h."""
    return 1 - h * h if options.activation == "tanh" else (h > 0).astype(h.dtype)


def build(arrays, options):
    """The optimized model, with parameters that start at these arrays."""
    tensors = scratch.params(arrays, options)
    return bind(tensors, options, forward, scratch.state, to_arrays, backward)
