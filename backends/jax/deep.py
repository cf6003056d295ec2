"""Stacked layers, embedding, dropout and optimizers. Sizes: L (layers), N (embedding)."""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp

from rnn_scratch.parameters import select_layer, split_by_layer

from . import scratch
from .scratch import CELLS, OPTIMIZERS, encode, gradients


def deep_step(x, state, params, options, masks=None):
    """Run all layers on x (B, V) with optional masks (L, B, H); return logits and next state."""
    next_state = ()
    x = x @ params["W_e"] if options.embedding else x  # (B, N)
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_state = CELLS[options.cell](x, layer_state, select_layer(params, layer))
        x = layer_state[0] if masks is None else layer_state[0] * masks[layer]  # dropout
        next_state += layer_state
    return x @ params["W_hq"] + params["b_q"], next_state


def deep_forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    outputs = []
    for t, x in enumerate(encode(tokens.T, params)):  # x: (B, V)
        step_masks = None if masks is None else masks[t]
        logits, state = deep_step(x, state, params, options, step_masks)
        outputs.append(logits)
    return jnp.concatenate(outputs), state


def deep_gradients(params, batch, state, options):
    """Return the results of `gradients` for `deep_forward` with the minibatch's masks."""
    return gradients(params, batch, state, options, partial(deep_forward, masks=batch.masks))


def momentum(params, grads, slots, update):
    """Apply SGD with momentum: m is an exponentially weighted sum of the gradients so far."""
    m, next_params = {}, {}
    for name, param in params.items():
        m[name] = update.beta1 * slots["m"][name] + grads[name]
        next_params[name] = param - update.lr * (m[name] + update.weight_decay * param)
    return next_params, {"m": m}


def adam(params, grads, slots, update):
    """Apply Adam (Kingma & Ba, 2015) with moving averages m of the gradient and v of its square."""
    m, v, next_params = {}, {}, {}
    for name, param in params.items():
        grad = grads[name]
        m[name] = update.beta1 * slots["m"][name] + (1 - update.beta1) * grad
        v[name] = update.beta2 * slots["v"][name] + (1 - update.beta2) * (grad * grad)
        direction = (m[name] / update.c_m) / (jnp.sqrt(v[name] / update.c_v) + update.epsilon)
        next_params[name] = param - update.lr * (direction + update.weight_decay * param)
    return next_params, {"m": m, "v": v}


def build_deep(arrays, options):
    """Build the model from initial parameter values."""
    model = scratch.build(arrays, options)
    return replace(model, forward=deep_forward, gradients=deep_gradients)


OPTIMIZERS |= {"momentum": momentum, "adam": adam}
