"""The ``scratch`` model, optimized by hand; its results match those of ``scratch`` up to rounding.

A comment here or in a sibling module explains each main optimization and starts with its name. The
project's website lists the speedups.
"""

from functools import partial

import numpy as np

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import (
    add_layer_suffix,
    join_gates,
    select_layer,
    split_by_layer,
    split_gates,
)

from . import machine, scratch
from .gated import flatten, gru_after, gru_after_backward, lstm, lstm_backward


def init_params(arrays, options):
    """Create the parameters of ``scratch`` with the gates concatenated."""
    # Fused gates: the weights of all G gates form one matrix (H, G*H).
    return scratch.init_params(join_gates(arrays, options), options)


def forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    outputs, state, _ = run_layers(tokens.T, state, params, options, masks)
    # Batched output layer: the logits are not fed back, so one product computes all of them.
    return flatten(outputs[-1]) @ params["W_hq"] + params["b_q"], state


def run_layers(tokens, state, params, options, masks):
    """Run all layers on tokens (T, B); return each layer's outputs, the next state and caches."""
    (loop, _), outputs, next_state, caches = CELLS[options.cell], [], (), []
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_params = select_layer(params, layer)
        if layer == 0:
            inputs = lookup_inputs(tokens, params)  # (T, B, G*H)
        else:
            inputs = project_inputs(outputs[-1], layer_params)
        (hiddens, *c), cache = loop(inputs, *layer_state, *recurrent_params(layer_params).values())
        outputs.append(hiddens if masks is None else hiddens * masks[:, layer])
        # A view would keep all hidden states in memory, so copy the state.
        next_state += hiddens[-1].copy(), *c
        caches.append(cache)
    return outputs, next_state, caches


def recurrent_params(params):
    """Return a layer's recurrent weights W_h (H, G*H) and, for `gru-after`, the bias b_hh (H,)."""
    return {name: params[name] for name in ("W_h", "b_hh") if name in params}


def project_inputs(outputs, params):
    """Project a layer's outputs (T, B, H) to the next layer's gate inputs (T, B, G*H)."""
    inputs = flatten(outputs) @ params["W_x"] + params["b"]
    return inputs.reshape(*outputs.shape[:2], -1)


def lookup_inputs(tokens, params):
    """Look up gate inputs (..., G*H) for tokens (...): rows of W_x (or W_e W_x) plus b."""
    # Embedding lookup: multiplying by one-hot vectors only selects rows of a matrix.
    table = params["W_x"]
    if "W_e" in params:
        if tokens.size < len(params["b_q"]):  # text generation: fewer tokens than table rows
            return params["W_e"][tokens] @ table + params["b"]
        table = params["W_e"] @ table
    return table[tokens] + params["b"]


def lookup_inputs_backward(d_rows, tokens, size):
    """Sum gradients `d_rows` (T*B, G*H) over each token's occurrences; return sums (size, G*H)."""
    if size <= 100:  # small vocabulary: a product with one-hot vectors is faster
        return np.eye(size, dtype=d_rows.dtype)[tokens].T @ d_rows
    # Sorted row sums: a product with one-hot vectors would take time proportional to `size`.
    order = np.argsort(tokens, kind="stable")
    labels, starts = np.unique(tokens[order], return_index=True)
    d_table = np.zeros((size, d_rows.shape[1]), d_rows.dtype)
    d_table[labels] = np.add.reduceat(d_rows[order], starts)
    return d_table


def recurrence(inputs, h_0, W_h, relu=False):
    """Run the RNN over inputs (T, B, H) from h_0 (B, H); return the hidden states and a cache."""
    hiddens, h = inputs, h_0
    product = np.empty_like(h_0)
    for z in hiddens:  # overwrite inputs, because allocation takes longer than addition
        z += np.matmul(h, W_h, out=product)
        h = np.maximum(z, 0, out=z) if relu else np.tanh(z, out=z)  # (B, H)
    return (hiddens,), (hiddens, h_0)


def recurrence_backward(d_hiddens, cache, W_h, relu=False):
    """Backpropagate through `recurrence`; return gradients w.r.t. inputs (T, B, H) and W_h."""
    hiddens, h_0 = cache
    dz = (hiddens > 0).astype(hiddens.dtype) if relu else 1 - hiddens * hiddens  # slope (T, B, H)
    dz[-1] *= d_hiddens[-1]
    d_h = np.empty_like(h_0)
    for t in reversed(range(len(dz) - 1)):
        np.matmul(dz[t + 1], W_h.T, out=d_h)  # (B, H)
        d_h += d_hiddens[t]
        dz[t] *= d_h
    # Batched weight gradient: a single matrix product also sums over time.
    d_W_h = flatten(hiddens[:-1]).T @ flatten(dz[1:])  # all steps except the first
    d_W_h += h_0.T @ dz[0]
    return dz, d_W_h


CELLS = {
    "rnn": (recurrence, recurrence_backward),
    "gru-after": (gru_after, gru_after_backward),
    "lstm": (lstm, lstm_backward),
    "rnn-relu": (partial(recurrence, relu=True), partial(recurrence_backward, relu=True)),
}


def loss_and_backward(logits, targets):
    """Return the results of ``scratch.loss`` and ``scratch.loss_backward``."""
    # One softmax: the loss and its gradient share the log-probabilities and the labels.
    log_probs = scratch.log_softmax(logits)
    rows, labels = np.arange(len(logits)), targets.T.reshape(-1)  # (T*B,)
    mean_loss, d_logits = -log_probs[rows, labels].mean(), np.exp(log_probs)
    d_logits[rows, labels] -= 1
    return mean_loss, d_logits / len(labels)


def gradients(params, batch, state, options):
    """Backpropagate through time; return the results of ``scratch.gradients``."""
    tokens, (_, loop_backward) = batch.X.T, CELLS[options.cell]
    outputs, state, caches = run_layers(tokens, state, params, options, batch.masks)
    logits = flatten(outputs[-1]) @ params["W_hq"] + params["b_q"]  # (T*B, V)
    mean_loss, d_logits = loss_and_backward(logits, batch.Y)
    grads = {"W_hq": flatten(outputs[-1]).T @ d_logits, "b_q": d_logits.sum(0)}
    d_outputs = (d_logits @ params["W_hq"].T).reshape(outputs[-1].shape)
    for layer in reversed(range(options.num_layers)):
        layer_params = select_layer(params, layer)
        if batch.masks is not None:
            d_outputs *= batch.masks[:, layer]
        recurrent = recurrent_params(layer_params)
        d_inputs, *d_recurrent = loop_backward(d_outputs, caches[layer], *recurrent.values())
        d_inputs = flatten(d_inputs)  # (T*B, G*H)
        layer_grads = {**dict(zip(recurrent, d_recurrent)), "b": d_inputs.sum(0)}
        if layer > 0:
            layer_grads["W_x"] = flatten(outputs[layer - 1]).T @ d_inputs
            d_outputs = (d_inputs @ layer_params["W_x"].T).reshape(d_outputs.shape)
        grads |= add_layer_suffix(layer_grads, layer)
    d_table = lookup_inputs_backward(d_inputs, tokens.reshape(-1), len(params["b_q"]))  # (V, G*H)
    if "W_e" in params:
        grads |= {"W_e": d_table @ params["W_x"].T, "W_x": params["W_e"].T @ d_table}
    else:
        grads["W_x"] = d_table
    return mean_loss, {name: grads[name] for name in params}, state


def build(arrays, options):
    """Build the optimized model from initial parameter values."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f'The `fast` variant has no cell {options.cell}.\nUse `variant="scratch"`.'
        )

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options)

    params, train_minibatch = init_params(arrays, options), scratch.train_minibatch
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)
