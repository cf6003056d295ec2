"""Stacked layers, embedding, dropout and optimizers. Sizes: L (layers), N (embedding)."""

from dataclasses import replace
from functools import partial

import numpy as np

from rnn_scratch.parameters import add_layer_suffix, select_layer, split_by_layer

from . import scratch
from .scratch import CELL_BACKWARD, CELLS, OPTIMIZERS, bptt, encode


def deep_step(x, state, params, options, masks=None):
    """Run all layers on x (B, V) with optional masks (L, B, H); return logits and next state."""
    next_state = ()
    x = x @ params["W_e"] if options.embedding else x  # (B, N)
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_state = CELLS[options.cell](x, layer_state, select_layer(params, layer))
        x = layer_state[0] if masks is None else layer_state[0] * masks[layer]  # dropout
        next_state += layer_state
    return x @ params["W_hq"] + params["b_q"], next_state


def deep_step_backward(d_logits, d_next_state, next_state, x, state, params, options, masks=None):
    """Backpropagate through `deep_step`; return gradients w.r.t. `state` and `params`."""
    states, next_states = split_by_layer(state, options), split_by_layer(next_state, options)
    scales = [1] * options.num_layers if masks is None else masks
    outputs = [next_states[layer][0] * scales[layer] for layer in range(options.num_layers)]
    inputs = [x @ params["W_e"] if options.embedding else x, *outputs]
    grads = {"W_hq": outputs[-1].T @ d_logits, "b_q": d_logits.sum(0)}
    d_output, d_state = d_logits @ params["W_hq"].T, ()
    for layer in reversed(range(options.num_layers)):
        d_h, *d_rest = split_by_layer(d_next_state, options)[layer]  # gradients from the next step
        d_layer_state = d_h + d_output * scales[layer], *d_rest
        tensors = d_layer_state, next_states[layer], inputs[layer], states[layer]
        cell_backward = CELL_BACKWARD[options.cell]
        d_output, d_layer_state, layer_grads = cell_backward(*tensors, select_layer(params, layer))
        grads |= add_layer_suffix(layer_grads, layer)
        d_state = (*d_layer_state, *d_state)
    return d_state, grads | ({"W_e": x.T @ d_output} if options.embedding else {})


def deep_forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    outputs = []
    for t, x in enumerate(encode(tokens.T, params)):  # x: (B, V)
        step_masks = None if masks is None else masks[t]
        logits, state = deep_step(x, state, params, options, step_masks)
        outputs.append(logits)
    return np.concatenate(outputs), state


def deep_gradients(params, batch, state, options):
    """Return the results of `gradients` for `deep_forward` with the minibatch's masks."""
    masks = [None] * batch.X.shape[1] if batch.masks is None else batch.masks
    steps = [(partial(deep_step, masks=m), partial(deep_step_backward, masks=m)) for m in masks]
    return bptt(steps, params, batch, state, options)


def momentum(params, grads, slots, update):
    """Apply SGD with momentum: m is an exponentially weighted sum of the gradients so far."""
    m = slots["m"]
    for name, param in params.items():
        m[name] = update.beta1 * m[name] + grads[name]
        param -= update.lr * (m[name] + update.weight_decay * param)
    return params, slots


def adam(params, grads, slots, update):
    """Apply Adam (Kingma & Ba, 2015) with moving averages m of the gradient and v of its square."""
    m, v = slots["m"], slots["v"]
    for name, param in params.items():
        grad = grads[name]
        m[name] = update.beta1 * m[name] + (1 - update.beta1) * grad
        v[name] = update.beta2 * v[name] + (1 - update.beta2) * (grad * grad)
        direction = (m[name] / update.c_m) / (np.sqrt(v[name] / update.c_v) + update.epsilon)
        param -= update.lr * (direction + update.weight_decay * param)
    return params, slots


def build_deep(arrays, options):
    """Build the model from initial parameter values."""
    model = scratch.build(arrays, options)
    return replace(model, forward=deep_forward, gradients=deep_gradients)


OPTIMIZERS |= {"momentum": momentum, "adam": adam}
