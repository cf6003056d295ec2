"""The model of ``scratch``, optimized by hand.

It computes the same numbers, up to rounding. Each optimization has a name, under which a comment
here or in the modules beside it gives its reason and what it gains: the time of a training
minibatch without it relative to the time with it (rnn, B 32, T 35, V 28, float32, one thread,
unless it says otherwise).
"""

from functools import partial

import numpy as np

from rnn_scratch.contract import RNNScratchError, bind
from rnn_scratch.parameters import (
    by_layer,
    join_gates,
    of_layer,
    split_gates,
    to_layer,
    tokens_and_masks,
)

from . import machine, scratch
from .gated import flatten, gru, gru_after, gru_after_back, gru_back, lstm, lstm_back


def params(arrays, options):
    """The parameters of ``scratch``, all gates side by side."""
    # Gates in one product: G gates are one matrix (H, G*H), which a layer multiplies with at once.
    # Gain (lstm): 1.11 with 64 hidden units, 0.91 with 512.
    return scratch.params(join_gates(arrays, options), options)


def forward(inputs, state, params, options):
    """All time steps: tokens (B, T), or these and masks (T, L, B, H), to logits (T*B, V)."""
    tokens, masks = tokens_and_masks(inputs)
    outputs, state, _ = layers(tokens.T, state, params, options, masks)
    # One output layer: it does not feed back, so one product can serve all time steps.
    # Gain: 1.14 with 64 hidden units, 1.02 with 512.
    return flatten(outputs[-1]) @ params["W_hq"] + params["b_q"], state


def layers(tokens, state, params, options, masks):
    """All layers: tokens (T, B) to each one's outputs (T, B, H), the state, and what to save."""
    (loop, _), outputs, after, saved = CELLS[options.cell], [], (), []
    for layer, before in enumerate(by_layer(state, options)):
        own = of_layer(params, layer)
        x = rows(tokens, params) if layer == 0 else upwards(outputs[-1], own)  # (T, B, G*H)
        (hiddens, *last), kept = loop(x, *before, own["W_h"])
        outputs.append(hiddens if masks is None else hiddens * masks[:, layer])
        # The state is a copy, because a view would keep all hidden states in memory.
        after += hiddens[-1].copy(), *last
        saved.append(kept)
    return outputs, after, saved


def upwards(outputs, params):
    """What goes into a layer from the one below: (T, B, H) to (T, B, G*H), in one product."""
    inputs = flatten(outputs) @ params["W_x"] + params["b"]
    return inputs.reshape(*outputs.shape[:2], -1)


def rows(tokens, params):
    """Rows of W_x, or of W_e W_x, for the tokens, and b added: tokens (...) to (..., G*H)."""
    # Rows instead of products: a one-hot vector times a matrix is one of the matrix's rows.
    # Gain: 1.03 with 64 hidden units, 1.01 with 512.
    W_x, b = params["W_x"], params["b"]
    if tokens.size < len(params["b_q"]):  # fewer tokens than rows: a step of generating text
        return (params["W_e"][tokens] @ W_x if "W_e" in params else W_x[tokens]) + b
    # Bias in the table: it is added to V rows instead of T*B.
    # Gain: 1.02 with 64 hidden units, 1.01 with 512.
    return ((params["W_e"] @ W_x if "W_e" in params else W_x) + b)[tokens]


def rows_back(d_rows, tokens, size):
    """Its backward pass: the sum of the rows of each token, (T*B, G*H) to (size, G*H)."""
    if size <= 100:  # of a small vocabulary a product with one-hot vectors is faster
        return np.eye(size, dtype=d_rows.dtype)[tokens].T @ d_rows
    # Sums of sorted rows: the cost of that product grows with the vocabulary.
    # Gain with 5,000 characters: 1.51 with 64 hidden units, 1.32 with 512.
    order = np.argsort(tokens, kind="stable")
    labels, first = np.unique(tokens[order], return_index=True)
    d_table = np.zeros((size, d_rows.shape[1]), d_rows.dtype)
    d_table[labels] = np.add.reduceat(d_rows[order], first)
    return d_table


def recurrence(inputs, h_0, W_h, relu=False):
    """The loop over time of `rnn`: inputs (T, B, H), h_0 (B, H) to all h; and what to save."""
    # In place: each input becomes a hidden state, as new memory costs more than the additions.
    # Gain: 1.03 with 64 hidden units, 1.01 with 512.
    hiddens, h = inputs, h_0
    for z in hiddens:
        z += h @ W_h
        h = np.maximum(z, 0, out=z) if relu else np.tanh(z, out=z)  # (B, H)
    return (hiddens,), (hiddens, h_0)


def recurrence_back(d_hiddens, saved, W_h, relu=False):
    """Its backward pass: the gradients of the inputs (T, B, H) and of W_h (H, H)."""
    hiddens, h_0 = saved
    slope = (hiddens > 0).astype(hiddens.dtype) if relu else 1 - hiddens * hiddens
    dz = slope  # (T, B, H), in place from here on
    dz[-1] *= d_hiddens[-1]
    for t in reversed(range(len(dz) - 1)):
        dz[t] *= d_hiddens[t] + dz[t + 1] @ W_h.T  # (B, H)
    # One product per gradient: the sum over time is part of a matrix product over T*B rows.
    # Gain: 1.06 with 64 hidden units, 1.07 with 512.
    d_W_h = flatten(hiddens[:-1]).T @ flatten(dz[1:])  # all but the first step's
    d_W_h += h_0.T @ dz[0]
    return dz, d_W_h


CELLS = {
    "rnn": (recurrence, recurrence_back),
    "gru": (gru, gru_back),
    "gru-after": (gru_after, gru_after_back),
    "lstm": (lstm, lstm_back),
    "rnn-relu": (partial(recurrence, relu=True), partial(recurrence_back, relu=True)),
}


def backward(batch, state, params, options):
    """Backpropagation through time: what `gradients` returns."""
    tokens, (_, loop_back) = batch.X.T, CELLS[options.cell]
    outputs, state, saved = layers(tokens, state, params, options, batch.masks)
    logits = flatten(outputs[-1]) @ params["W_hq"] + params["b_q"]  # (T*B, V)
    d_logits = scratch.loss_back(logits, batch.Y)
    grads = {"W_hq": flatten(outputs[-1]).T @ d_logits, "b_q": d_logits.sum(0)}
    d_outputs = (d_logits @ params["W_hq"].T).reshape(outputs[-1].shape)
    for layer in reversed(range(options.num_layers)):
        own = of_layer(params, layer)
        if batch.masks is not None:
            d_outputs *= batch.masks[:, layer]
        d_inputs, d_W_h = loop_back(d_outputs, saved[layer], own["W_h"])
        d_inputs = flatten(d_inputs)  # (T*B, G*H)
        own_grads = {"W_h": d_W_h, "b": d_inputs.sum(0)}
        if layer > 0:
            own_grads["W_x"] = flatten(outputs[layer - 1]).T @ d_inputs
            d_outputs = (d_inputs @ own["W_x"].T).reshape(d_outputs.shape)
        grads |= to_layer(own_grads, layer)
    d_table = rows_back(d_inputs, tokens.reshape(-1), len(params["b_q"]))  # (V, G*H)
    if "W_e" in params:
        grads |= {"W_e": d_table @ params["W_x"].T, "W_x": params["W_e"].T @ d_table}
    else:
        grads["W_x"] = d_table
    return scratch.loss(logits, batch.Y), {name: grads[name] for name in params}, state


def build(arrays, options):
    """The optimized model, with parameters that start at these arrays."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f"The optimized model has no cell {options.cell!r}.\nUse --model scratch."
        )

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options)

    tensors = params(arrays, options)
    return bind(tensors, options, forward, scratch.state, to_arrays, backward)
