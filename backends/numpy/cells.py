"""Gated cells and a ReLU cell; each maps x (B, V) and a state (B, H) to the next state.

Example:
    >>> from rnn_scratch import contract, parameters
    >>> from rnn_scratch.backends.numpy import scratch
    >>> for name, cell in CELLS.items():
    ...     options = contract.ModelConfig(vocab_size=5, num_hiddens=3, cell=name)
    ...     arrays = parameters.draw_parameters(options, sigma=0.1, seed=0)
    ...     params = scratch.init_params(arrays, options)
    ...     x = scratch.encode(np.array([1, 4]), params)
    ...     h, *_ = cell(x, scratch.init_state(2, options), params)
    ...     print(name, tuple(h.shape))
    rnn (2, 3)
    gru (2, 3)
    gru-after (2, 3)
    lstm (2, 3)
    rnn-relu (2, 3)
"""

import numpy as np

from .scratch import CELL_BACKWARD, CELLS


def gate(x, h, name, params):
    """Compute gate `name` (B, H) from x (B, V) and h (B, H); its values lie between 0 and 1."""
    preactivation = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return 1 / (1 + np.exp(-preactivation))


def gates_backward(d_gates, x, h, params):
    """Backpropagate through x W_xg + h W_hg + b_g for each gate g; return d_x, d_h and grads."""
    grads = {}
    for name, dz in d_gates.items():
        grads |= {f"W_x{name}": x.T @ dz, f"W_h{name}": h.T @ dz, f"b_{name}": dz.sum(0)}
    d_x = sum(dz @ params[f"W_x{name}"].T for name, dz in d_gates.items())
    return d_x, sum(dz @ params[f"W_h{name}"].T for name, dz in d_gates.items()), grads


def gru(x, state, params):
    """Compute one GRU step; apply the reset gate before the matrix product."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")  # update and reset gates (B, H)
    h_tilde = np.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    return (z * h + (1 - z) * h_tilde,)


def gru_backward(d_next_state, next_state, x, state, params):
    """Backpropagate through `gru`, recomputing the gates."""
    (d_h,), (h,) = d_next_state, state
    z, r = (gate(x, h, name, params) for name in "zr")
    h_tilde = np.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    d_h_tilde, d_z = d_h * (1 - z) * (1 - h_tilde * h_tilde), d_h * (h - h_tilde) * z * (1 - z)
    d_x_tilde, d_rh, grads_tilde = gates_backward({"h": d_h_tilde}, x, r * h, params)
    d_x, d_h_gates, grads = gates_backward({"z": d_z, "r": d_rh * h * r * (1 - r)}, x, h, params)
    return d_x + d_x_tilde, (d_h * z + d_rh * r + d_h_gates,), grads | grads_tilde


def gru_after(x, state, params):
    """Compute one GRU step; apply the reset gate after the product, as most built-in layers do."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")
    product = h @ params["W_hh"] + params["b_hh"]
    h_tilde = np.tanh(x @ params["W_xh"] + r * product + params["b_h"])
    return (z * h + (1 - z) * h_tilde,)


def gru_after_backward(d_next_state, next_state, x, state, params):
    """Backpropagate through `gru_after`, recomputing the gates."""
    (d_h,), (h,) = d_next_state, state
    z, r = (gate(x, h, name, params) for name in "zr")
    product = h @ params["W_hh"] + params["b_hh"]
    h_tilde = np.tanh(x @ params["W_xh"] + r * product + params["b_h"])
    d_h_tilde, d_z = d_h * (1 - z) * (1 - h_tilde * h_tilde), d_h * (h - h_tilde) * z * (1 - z)
    d_x_tilde, _, grads_tilde = gates_backward({"h": d_h_tilde}, x, h, params)
    d_r = d_h_tilde * product * r * (1 - r)
    d_x, d_h_gates, grads = gates_backward({"z": d_z, "r": d_r}, x, h, params)
    d_product = d_h_tilde * r
    grads |= grads_tilde | {"W_hh": h.T @ d_product, "b_hh": d_product.sum(0)}
    return d_x + d_x_tilde, (d_h * z + d_product @ params["W_hh"].T + d_h_gates,), grads


def lstm(x, state, params):
    """Compute one LSTM step; the state consists of the hidden state h and the cell state c."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gates (B, H)
    c_tilde = np.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    c = f * c + i * c_tilde
    return o * np.tanh(c), c


def lstm_backward(d_next_state, next_state, x, state, params):
    """Backpropagate through `lstm`, recomputing the gates."""
    (d_h, d_c), (_, next_c), (h, c) = d_next_state, next_state, state
    i, f, o = (gate(x, h, name, params) for name in "ifo")
    c_tilde = np.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    output = np.tanh(next_c)
    d_c = d_c + d_h * o * (1 - output * output)
    d_i, d_f, d_o = d_c * c_tilde * i * (1 - i), d_c * c * f * (1 - f), d_h * output * o * (1 - o)
    d_gates = {"i": d_i, "f": d_f, "o": d_o, "c": d_c * i * (1 - c_tilde * c_tilde)}
    d_x, d_h, grads = gates_backward(d_gates, x, h, params)
    return d_x, (d_h, d_c * f), grads


def rnn_relu(x, state, params):
    """Compute one RNN step with ReLU instead of tanh; ReLU's derivative at 0 is taken to be 0."""
    (h,) = state
    return (np.maximum(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"], 0),)


def rnn_relu_backward(d_next_state, next_state, x, state, params):
    """Backpropagate through `rnn_relu`."""
    (d_h,), (next_h,), (h,) = d_next_state, next_state, state
    d_x, d_h, grads = gates_backward({"h": d_h * (next_h > 0)}, x, h, params)
    return d_x, (d_h,), grads


CELLS |= {"gru": gru, "gru-after": gru_after, "lstm": lstm, "rnn-relu": rnn_relu}
CELL_BACKWARD |= {"gru": gru_backward, "gru-after": gru_after_backward, "lstm": lstm_backward}
CELL_BACKWARD["rnn-relu"] = rnn_relu_backward
