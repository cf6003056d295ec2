"""Loops over time for the gated cells in ``fast``.

A tensor (B, G*H) holds all G gates in the order of their parameters, so a single product with W_h
(H, G*H) computes them all.
"""

import numpy as np


def sigmoid(z):
    """Compute the logistic function."""
    return 1 / (1 + np.exp(-z))


def flatten(x):
    """Merge the time and batch axes: (T, B, H) to (T*B, H)."""
    return x.reshape(-1, x.shape[-1])


def allocate_states(state, num_steps):
    """Allocate states (T+1, B, H) and copy `state` into the first."""
    states = np.empty((num_steps + 1, *state.shape), state.dtype)
    states[0] = state
    return states


def gru_after(inputs, h_0, W_h, b_hh):
    """Run the GRU over inputs (T, B, 3H) from h_0 (B, H); return the hidden states and a cache."""
    size, gates, products = h_0.shape[1], np.empty_like(inputs), np.empty_like(inputs)
    hiddens = allocate_states(h_0, len(inputs))
    for t, x in enumerate(inputs):
        product = np.matmul(hiddens[t], W_h, out=products[t])  # (B, 3H)
        product[:, 2 * size :] += b_hh
        zr = sigmoid(x[:, : 2 * size] + product[:, : 2 * size])  # (B, 2H)
        z, r = np.split(zr, 2, 1)  # (B, H)
        h_tilde = np.tanh(x[:, 2 * size :] + r * product[:, 2 * size :])
        gates[t] = np.concatenate((zr, h_tilde), 1)
        hiddens[t + 1] = z * hiddens[t] + (1 - z) * h_tilde
    return (hiddens[1:],), (gates, hiddens[:-1], products[:, :, 2 * size :])


def gru_after_backward(d_hiddens, cache, W_h, b_hh):
    """Backpropagate through `gru_after`; return gradients w.r.t. inputs (T, B, 3H), W_h, b_hh."""
    gates, prev_hiddens, products = cache
    dz, d_inputs = np.empty_like(gates), np.empty_like(gates)  # gradients w.r.t. products, inputs
    d_h = np.zeros_like(prev_hiddens[0])
    steps = zip(d_hiddens, *np.split(gates, 3, 2), prev_hiddens, products, dz, d_inputs)
    for d_hidden, z, r, h_tilde, h, product, dz_t, d_x in reversed(list(steps)):
        d_h = d_h + d_hidden
        d_h_tilde = d_h * (1 - z) * (1 - h_tilde * h_tilde)
        d_z, d_r = d_h * (h - h_tilde) * z * (1 - z), d_h_tilde * product * r * (1 - r)
        np.concatenate((d_z, d_r, d_h_tilde), 1, out=d_x)
        np.concatenate((d_z, d_r, d_h_tilde * r), 1, out=dz_t)
        d_h = d_h * z + dz_t @ W_h.T
    dz = flatten(dz)  # (T*B, 3H)
    return d_inputs, flatten(prev_hiddens).T @ dz, dz[:, -len(b_hh) :].sum(0)


def lstm(inputs, h_0, c_0, W_h):
    """Run the LSTM over inputs (T, B, 4H) from h_0, c_0; return all h, the last c and a cache."""
    size, gates = h_0.shape[1], np.empty_like(inputs)  # i, f, o and the candidate
    hiddens, cells = (allocate_states(state, len(inputs)) for state in (h_0, c_0))
    outputs = np.empty_like(hiddens[1:])
    for t, x in enumerate(inputs):
        z = x + hiddens[t] @ W_h  # (B, 4H)
        gates[t, :, : 3 * size] = sigmoid(z[:, : 3 * size])
        gates[t, :, 3 * size :] = np.tanh(z[:, 3 * size :])
        i, f, o, c_tilde = np.split(gates[t], 4, 1)  # (B, H)
        cells[t + 1] = f * cells[t] + i * c_tilde
        outputs[t] = np.tanh(cells[t + 1])
        hiddens[t + 1] = o * outputs[t]
    # A view would keep all cell states in memory, so copy the last state.
    return (hiddens[1:], cells[-1].copy()), (gates, hiddens[:-1], cells, outputs)


def lstm_backward(d_hiddens, cache, W_h):
    """Backpropagate through `lstm`; return gradients w.r.t. inputs (T, B, 4H) and W_h."""
    gates, prev_hiddens, cells, outputs = cache
    dz, d_h, d_c = np.empty_like(gates), np.zeros_like(cells[0]), np.zeros_like(cells[0])
    steps = zip(d_hiddens, *np.split(gates, 4, 2), cells, outputs, dz)
    for d_hidden, i, f, o, c_tilde, c, output, dz_t in reversed(list(steps)):
        d_h = d_h + d_hidden
        d_c = d_c + d_h * o * (1 - output * output)
        parts = (
            d_c * c_tilde * i * (1 - i),
            d_c * c * f * (1 - f),
            d_h * output * o * (1 - o),
            d_c * i * (1 - c_tilde * c_tilde),
        )
        np.concatenate(parts, 1, out=dz_t)
        d_h, d_c = dz_t @ W_h.T, d_c * f
    return dz, flatten(prev_hiddens).T @ flatten(dz)
