"""Gated cells and a ReLU cell. Each maps x (B, V) and a state (B, H) to the next state."""

import tensorflow as tf

from .scratch import CELLS


def gate(x, h, name, params):
    """Compute a gate (B, H), with values between 0 and 1, from x (B, V) and h (B, H)."""
    z = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return tf.sigmoid(z)


def gru(x, state, params):
    """Compute one GRU step; the reset gate is applied before the matrix product."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")  # update and reset gate (B, H)
    h_tilde = tf.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    return (z * h + (1 - z) * h_tilde,)


def gru_after(x, state, params):
    """Compute one GRU step; the reset gate is applied after the product, as in most layers."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")
    h_tilde = tf.tanh(x @ params["W_xh"] + r * (h @ params["W_hh"]) + params["b_h"])
    return (z * h + (1 - z) * h_tilde,)


def lstm(x, state, params):
    """Compute one LSTM step; the state is the pair of hidden state h and cell state c."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gate (B, H)
    c_tilde = tf.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    c = f * c + i * c_tilde
    return o * tf.tanh(c), c


def rnn_relu(x, state, params):
    """Compute one RNN step with ReLU instead of tanh; the slope at 0 is 0."""
    (h,) = state
    return (tf.nn.relu(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"]),)


CELLS |= {"gru": gru, "gru-after": gru_after, "lstm": lstm, "rnn-relu": rnn_relu}
