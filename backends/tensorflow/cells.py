"""Cells with gates, and one with ReLU: x (B, V) and a state (B, H) to the next state."""

import tensorflow as tf

from .scratch import CELLS


def gate(x, h, name, params):
    """A gate, between 0 and 1: x (B, V) and h (B, H) to (B, H)."""
    z = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return tf.sigmoid(z)


def gru(x, state, params):
    """The gated recurrent unit; its reset gate acts before the product."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")  # update and reset gate, (B, H)
    new = tf.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    return (z * h + (1 - z) * new,)


def gru_after(x, state, params):
    """The gated recurrent unit; its reset gate acts after the product, as in most layers."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")
    new = tf.tanh(x @ params["W_xh"] + r * (h @ params["W_hh"]) + params["b_h"])
    return (z * h + (1 - z) * new,)


def lstm(x, state, params):
    """Long short-term memory: a second state, c, changes only as its gates allow."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gate, (B, H)
    new = tf.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    c = f * c + i * new
    return o * tf.tanh(c), c


def rnn_relu(x, state, params):
    """The recurrent cell with ReLU in place of tanh; its slope at 0 is 0."""
    (h,) = state
    h = tf.nn.relu(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])
    return (h,)


CELLS |= {"gru": gru, "gru-after": gru_after, "lstm": lstm, "rnn-relu": rnn_relu}
