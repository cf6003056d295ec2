"""Loops over time for the gated cells of ``fast``.

A tensor (B, G*H) holds all G gates, in the order of their parameters, so a single product with W_h
(H, G*H) computes all gates (two products for ``gru``, because of its reset gate). The elementwise
factors of the backward pass depend only on values from the forward pass. They are computed for all
time steps at once, so each step of the backward loop takes one matrix product (two for ``gru``) and
a few multiplications.
"""

import numpy as np


def sigmoid(z):
    """Compute the logistic function."""
    return 1 / (1 + np.exp(-z))


def flatten(x):
    """Merge the time and batch axes: (T, B, H) to (T*B, H)."""
    return x.reshape(-1, x.shape[-1])


def gru(inputs, h_0, W_h):
    """Run the GRU over inputs (T, B, 3H) from h_0 (B, H); return the hidden states and a cache."""
    size, gates = h_0.shape[1], np.empty_like(inputs)  # z, r and the candidate
    hiddens, resets = (np.empty((len(inputs), *h_0.shape), h_0.dtype) for _ in range(2))
    h = h_0
    for t, x in enumerate(inputs):
        zr = sigmoid(x[:, : 2 * size] + h @ W_h[:, : 2 * size])  # (B, 2H)
        z, r = np.split(zr, 2, 1)  # (B, H)
        resets[t] = r * h
        h_tilde = np.tanh(x[:, 2 * size :] + resets[t] @ W_h[:, 2 * size :])
        gates[t] = np.concatenate((zr, h_tilde), 1)
        h = hiddens[t] = z * h + (1 - z) * h_tilde
    return (hiddens,), (gates, hiddens, resets, h_0)


def gru_backward(d_hiddens, cache, W_h):
    """Backpropagate through `gru`; return gradients w.r.t. inputs (T, B, 3H) and W_h."""
    gates, hiddens, resets, h_0 = cache
    size, previous = h_0.shape[1], np.concatenate((h_0[None], hiddens[:-1]))  # (T, B, H)
    z, r, h_tilde = np.split(gates, 3, 2)  # (T, B, H)
    dz = np.concatenate(
        (
            (previous - h_tilde) * z * (1 - z),
            previous * r * (1 - r),
            (1 - z) * (1 - h_tilde * h_tilde),
        ),
        2,
    )
    d_h = np.zeros_like(h_0)
    for t in reversed(range(len(dz))):
        d_h = d_h + d_hiddens[t]
        d_z, d_r, d_h_tilde = np.split(dz[t], 3, 1)  # views, modified in place
        d_h_tilde *= d_h
        d_reset = d_h_tilde @ W_h[:, 2 * size :].T
        d_z *= d_h
        d_r *= d_reset
        d_h = d_h * z[t] + d_reset * r[t] + dz[t, :, : 2 * size] @ W_h[:, : 2 * size].T
    products = (
        flatten(previous).T @ flatten(dz[:, :, : 2 * size]),
        flatten(resets).T @ flatten(dz[:, :, 2 * size :]),
    )
    return dz, np.concatenate(products, 1)


def gru_after(inputs, h_0, W_h):
    """Run the GRU like `gru`, but apply the reset gate after the product."""
    size, gates, products = h_0.shape[1], np.empty_like(inputs), np.empty_like(inputs)
    hiddens, h = np.empty((len(inputs), *h_0.shape), h_0.dtype), h_0
    for t, x in enumerate(inputs):
        product = np.matmul(h, W_h, out=products[t])  # (B, 3H)
        zr = sigmoid(x[:, : 2 * size] + product[:, : 2 * size])  # (B, 2H)
        z, r = np.split(zr, 2, 1)  # (B, H)
        h_tilde = np.tanh(x[:, 2 * size :] + r * product[:, 2 * size :])
        gates[t] = np.concatenate((zr, h_tilde), 1)
        h = hiddens[t] = z * h + (1 - z) * h_tilde
    return (hiddens,), (gates, hiddens, products, h_0)


def gru_after_backward(d_hiddens, cache, W_h):
    """Backpropagate through `gru_after`; return gradients w.r.t. inputs (T, B, 3H) and W_h."""
    gates, hiddens, products, h_0 = cache
    size, previous = h_0.shape[1], np.concatenate((h_0[None], hiddens[:-1]))  # (T, B, H)
    z, r, h_tilde = np.split(gates, 3, 2)  # (T, B, H)
    d_h_tilde = (1 - z) * (1 - h_tilde * h_tilde)
    dz = np.stack(
        (
            (previous - h_tilde) * z * (1 - z),
            d_h_tilde * products[:, :, 2 * size :] * r * (1 - r),
            d_h_tilde * r,
        ),
        2,
    )  # (T, B, 3, H)
    d_h = np.zeros_like(h_0)
    for t in reversed(range(len(dz))):
        d_h = d_h + d_hiddens[t]
        d_h_tilde[t] *= d_h
        dz[t] *= d_h[:, None]
        d_h = d_h * z[t] + dz[t].reshape(len(h_0), -1) @ W_h.T
    dz = dz.reshape(gates.shape)
    d_W_h = flatten(previous).T @ flatten(dz)
    return np.concatenate((dz[:, :, : 2 * size], d_h_tilde), 2), d_W_h


def lstm(inputs, h_0, c_0, W_h):
    """Run the LSTM over inputs (T, B, 4H) from h_0, c_0; return all h, the last c and a cache."""
    size, gates = h_0.shape[1], np.empty_like(inputs)  # i, f, o and the candidate
    hiddens, cells, outputs = (np.empty((len(inputs), *h_0.shape), h_0.dtype) for _ in range(3))
    h, c = h_0, c_0
    for t, x in enumerate(inputs):
        z = x + h @ W_h  # (B, 4H)
        gates[t, :, : 3 * size] = sigmoid(z[:, : 3 * size])
        gates[t, :, 3 * size :] = np.tanh(z[:, 3 * size :])
        i, f, o, c_tilde = np.split(gates[t], 4, 1)  # (B, H)
        c = cells[t] = f * c + i * c_tilde
        outputs[t] = np.tanh(c)
        h = hiddens[t] = o * outputs[t]
    return (hiddens, c), (gates, hiddens, cells, outputs, h_0, c_0)


def lstm_backward(d_hiddens, cache, W_h):
    """Backpropagate through `lstm`; return gradients w.r.t. inputs (T, B, 4H) and W_h."""
    gates, hiddens, cells, outputs, h_0, c_0 = cache
    previous = np.concatenate((h_0[None], hiddens[:-1]))  # (T, B, H)
    i, f, o, c_tilde = np.split(gates, 4, 2)  # (T, B, H)
    # Coefficients at once: a few operations for all time steps take less time than many small ones.
    dz = np.stack(
        (
            c_tilde * i * (1 - i),
            np.concatenate((c_0[None], cells[:-1])) * f * (1 - f),
            outputs * o * (1 - o),
            i * (1 - c_tilde * c_tilde),
        ),
        2,
    )  # (T, B, 4, H)
    coef_c = o * (1 - outputs * outputs)
    d_h, d_c = np.zeros_like(h_0), np.zeros_like(c_0)
    for t in reversed(range(len(dz))):
        d_h = d_h + d_hiddens[t]
        d_c = d_c + d_h * coef_c[t]
        dz[t, :, :2] *= d_c[:, None]
        dz[t, :, 2] *= d_h
        dz[t, :, 3] *= d_c
        d_c = d_c * f[t]
        d_h = dz[t].reshape(len(h_0), -1) @ W_h.T
    dz = dz.reshape(gates.shape)
    return dz, flatten(previous).T @ flatten(dz)
