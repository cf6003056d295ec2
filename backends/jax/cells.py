"""Gated cells and a ReLU cell; each maps x (B, V) and a state (B, H) to the next state.

Example:
    >>> from rnn_scratch import contract, parameters
    >>> from rnn_scratch.backends.jax import scratch
    >>> for name, cell in CELLS.items():
    ...     options = contract.ModelConfig(vocab_size=5, num_hiddens=3, cell=name)
    ...     arrays = parameters.draw_parameters(options, sigma=0.1, seed=0)
    ...     params = scratch.init_params(arrays, options)
    ...     x = scratch.encode(jnp.array([1, 4]), params)
    ...     h, *_ = cell(x, scratch.init_state(2, options), params)
    ...     print(name, tuple(h.shape))
    rnn (2, 3)
    gru (2, 3)
    gru-after (2, 3)
    lstm (2, 3)
    rnn-relu (2, 3)
"""

import jax
import jax.numpy as jnp

from .scratch import CELLS


def gate(x, h, name, params):
    """Compute gate `name` (B, H) from x (B, V) and h (B, H); its values lie between 0 and 1."""
    preactivation = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return jax.nn.sigmoid(preactivation)


def gru(x, state, params):
    """Compute one GRU step; apply the reset gate before the matrix product."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")  # update and reset gates (B, H)
    h_tilde = jnp.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    return (z * h + (1 - z) * h_tilde,)


def gru_after(x, state, params):
    """Compute one GRU step; apply the reset gate after the product, as most built-in layers do."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")
    product = h @ params["W_hh"] + params["b_hh"]
    h_tilde = jnp.tanh(x @ params["W_xh"] + r * product + params["b_h"])
    return (z * h + (1 - z) * h_tilde,)


def lstm(x, state, params):
    """Compute one LSTM step; the state consists of the hidden state h and the cell state c."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gates (B, H)
    c_tilde = jnp.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    c = f * c + i * c_tilde
    return o * jnp.tanh(c), c


def rnn_relu(x, state, params):
    """Compute one RNN step with ReLU instead of tanh; ReLU's derivative at 0 is taken to be 0."""
    (h,) = state
    return (jax.nn.relu(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"]),)


CELLS |= {"gru": gru, "gru-after": gru_after, "lstm": lstm, "rnn-relu": rnn_relu}
