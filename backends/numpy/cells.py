"""Cells with gates, and one with ReLU: x (B, V) and a state (B, H) to the next state."""

import numpy as np

from .scratch import CELLS, CELLS_BACK


def gate(x, h, name, params):
    """A gate, between 0 and 1: x (B, V) and h (B, H) to (B, H)."""
    z = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return 1 / (1 + np.exp(-z))


def gates_back(d_gates, x, h, params):
    """Backward pass of x W_xg + h W_hg + b_g of gates g: gradients of x, h and these parameters."""
    grads = {}
    for name, dz in d_gates.items():
        grads |= {f"W_x{name}": x.T @ dz, f"W_h{name}": h.T @ dz, f"b_{name}": dz.sum(0)}
    d_x = sum(dz @ params[f"W_x{name}"].T for name, dz in d_gates.items())
    return d_x, sum(dz @ params[f"W_h{name}"].T for name, dz in d_gates.items()), grads


def gru(x, state, params):
    """The gated recurrent unit; its reset gate acts before the product."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")  # update and reset gate, (B, H)
    new = np.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    return (z * h + (1 - z) * new,)


def gru_back(d_after, after, x, before, params):
    """Its backward pass, with the gates computed once more."""
    (d_h,), (h,) = d_after, before
    z, r = (gate(x, h, name, params) for name in "zr")
    new = np.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    d_new, d_z = d_h * (1 - z) * (1 - new * new), d_h * (h - new) * z * (1 - z)
    d_x_new, d_rh, grads_new = gates_back({"h": d_new}, x, r * h, params)
    d_x, d_h_gates, grads = gates_back({"z": d_z, "r": d_rh * h * r * (1 - r)}, x, h, params)
    return d_x + d_x_new, (d_h * z + d_rh * r + d_h_gates,), grads | grads_new


def gru_after(x, state, params):
    """The gated recurrent unit; its reset gate acts after the product, as in most layers."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")
    new = np.tanh(x @ params["W_xh"] + r * (h @ params["W_hh"]) + params["b_h"])
    return (z * h + (1 - z) * new,)


def gru_after_back(d_after, after, x, before, params):
    """Its backward pass, with the gates computed once more."""
    (d_h,), (h,) = d_after, before
    z, r = (gate(x, h, name, params) for name in "zr")
    product = h @ params["W_hh"]
    new = np.tanh(x @ params["W_xh"] + r * product + params["b_h"])
    d_new, d_z = d_h * (1 - z) * (1 - new * new), d_h * (h - new) * z * (1 - z)
    d_x_new, _, grads_new = gates_back({"h": d_new}, x, h, params)
    d_r = d_new * product * r * (1 - r)
    d_x, d_h_gates, grads = gates_back({"z": d_z, "r": d_r}, x, h, params)
    d_h = d_h * z + (d_new * r) @ params["W_hh"].T + d_h_gates
    return d_x + d_x_new, (d_h,), grads | grads_new | {"W_hh": h.T @ (d_new * r)}


def lstm(x, state, params):
    """Long short-term memory: a second state, c, changes only as its gates allow."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gate, (B, H)
    new = np.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    c = f * c + i * new
    return o * np.tanh(c), c


def lstm_back(d_after, after, x, before, params):
    """Its backward pass, with the gates computed once more."""
    (d_h, d_c), (_, c_after), (h, c) = d_after, after, before
    i, f, o = (gate(x, h, name, params) for name in "ifo")
    new = np.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    out = np.tanh(c_after)
    d_c = d_c + d_h * o * (1 - out * out)
    d_i, d_f, d_o = d_c * new * i * (1 - i), d_c * c * f * (1 - f), d_h * out * o * (1 - o)
    d_gates = {"i": d_i, "f": d_f, "o": d_o, "c": d_c * i * (1 - new * new)}
    d_x, d_h, grads = gates_back(d_gates, x, h, params)
    return d_x, (d_h, d_c * f), grads


def rnn_relu(x, state, params):
    """The recurrent cell with ReLU in place of tanh; its slope at 0 is 0."""
    (h,) = state
    h = np.maximum(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"], 0)
    return (h,)


def rnn_relu_back(d_after, after, x, before, params):
    """Its backward pass."""
    (d_h,), (h,), (h_before,) = d_after, after, before
    d_x, d_h, grads = gates_back({"h": d_h * (h > 0)}, x, h_before, params)
    return d_x, (d_h,), grads


CELLS |= {"gru": gru, "gru-after": gru_after, "lstm": lstm, "rnn-relu": rnn_relu}
CELLS_BACK |= {"gru": gru_back, "gru-after": gru_after_back, "lstm": lstm_back}
CELLS_BACK["rnn-relu"] = rnn_relu_back
