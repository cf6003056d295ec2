"""Loops over time for the gated cells in ``fast``.

A tensor (B, G*H) holds all G gates in the order of their parameters, so a single product with W_h
(H, G*H) computes them all.
"""

import jax
import jax.numpy as jnp


def flatten(x):
    """Merge the time and batch axes: (T, B, H) to (T*B, H)."""
    return x.reshape(-1, x.shape[-1])


def reverse_scan(step, state, values):
    """Scan over the time axis of `values`, from the last step to the first."""
    return jax.lax.scan(step, state, values, reverse=True)


@jax.custom_vjp
def gru_after(inputs, h_0, W_h, b_hh):
    """Run the GRU over inputs (T, B, 3H) from h_0 (B, H); return hidden states (T, B, H)."""
    result, _ = gru_after_forward(inputs, h_0, W_h, b_hh)
    return result


def gru_after_forward(inputs, h_0, W_h, b_hh):
    """Compute the gates z and r, the candidate, and the hidden states."""

    def step(h, x):
        x_zr, x_candidate = jnp.split(x, [2 * h_0.shape[1]], 1)
        zr, product = jnp.split(h @ W_h, [2 * h_0.shape[1]], 1)
        z, r = jnp.split(jax.nn.sigmoid(x_zr + zr), 2, 1)  # (B, H)
        product += b_hh
        h_tilde = jnp.tanh(x_candidate + r * product)
        next_h = z * h + (1 - z) * h_tilde
        return next_h, (next_h, h, z, r, h_tilde, product)

    _, (hiddens, *cache) = jax.lax.scan(step, h_0, inputs)  # (T, B, H)
    return (hiddens,), (cache, W_h)


def gru_after_backward(cache, d_result):
    """Backpropagate through `gru_after`; return gradients w.r.t. inputs, h_0, W_h and b_hh."""
    (d_hiddens,), ((prev_hiddens, z, r, h_tilde, products), W_h) = d_result, cache
    W_T = W_h.T  # transpose once, before the loop

    def step(d_h, values):
        d_hidden, h, z, r, h_tilde, product = values
        d_h = d_h + d_hidden
        d_h_tilde = d_h * (1 - z) * (1 - h_tilde * h_tilde)
        d_z, d_r = d_h * (h - h_tilde) * z * (1 - z), d_h_tilde * product * r * (1 - r)
        dz = jnp.concatenate((d_z, d_r, d_h_tilde * r), 1)
        return d_h * z + dz @ W_T, (dz, d_h_tilde)

    values = d_hiddens, prev_hiddens, z, r, h_tilde, products
    d_h, (dz, d_h_tilde) = reverse_scan(step, jnp.zeros_like(z[0]), values)
    d_zr, d_products = jnp.split(dz, [2 * z.shape[2]], 2)
    d_inputs = jnp.concatenate((d_zr, d_h_tilde), 2)  # (T, B, 3H)
    return d_inputs, d_h, flatten(prev_hiddens).T @ flatten(dz), d_products.sum((0, 1))


gru_after.defvjp(gru_after_forward, gru_after_backward)


@jax.custom_vjp
def lstm(inputs, h_0, c_0, W_h):
    """Run the LSTM over inputs (T, B, 4H) from h_0 and c_0; return hidden states and the last c."""
    result, _ = lstm_forward(inputs, h_0, c_0, W_h)
    return result


def lstm_forward(inputs, h_0, c_0, W_h):
    """Compute the gates i, f and o, the candidate, and the hidden and cell states."""

    def step(state, x):
        h, c = state
        *ifo, c_tilde = jnp.split(x + h @ W_h, 4, 1)
        i, f, o = map(jax.nn.sigmoid, ifo)  # (B, H)
        c_tilde = jnp.tanh(c_tilde)
        next_c = f * c + i * c_tilde
        output = jnp.tanh(next_c)
        return (o * output, next_c), (o * output, h, c, i, f, o, c_tilde, output)

    (_, last_c), (hiddens, *cache) = jax.lax.scan(step, (h_0, c_0), inputs)  # (T, B, H)
    return (hiddens, last_c), (cache, W_h)


def lstm_backward(cache, d_result):
    """Backpropagate through `lstm`; return gradients w.r.t. inputs (T, B, 4H), h_0, c_0 and W_h."""
    # Hand-written backward pass of gates: JAX would differentiate every gate operation and
    # compute W_h's gradient at every time step.
    (d_hiddens, d_c), ((prev_hiddens, cells, i, f, o, c_tilde, outputs), W_h) = d_result, cache
    W_T = W_h.T

    def step(d_state, values):
        (d_h, d_c), (d_hidden, c, i, f, o, c_tilde, output) = d_state, values
        d_h = d_h + d_hidden
        d_c = d_c + d_h * o * (1 - output * output)
        parts = (
            d_c * c_tilde * i * (1 - i),
            d_c * c * f * (1 - f),
            d_h * output * o * (1 - o),
            d_c * i * (1 - c_tilde * c_tilde),
        )
        dz = jnp.concatenate(parts, 1)
        return (dz @ W_T, d_c * f), dz

    values = d_hiddens, cells, i, f, o, c_tilde, outputs
    (d_h, d_c), dz = reverse_scan(step, (jnp.zeros_like(f[0]), d_c), values)  # dz: (T, B, 4H)
    return dz, d_h, d_c, flatten(prev_hiddens).T @ flatten(dz)


lstm.defvjp(lstm_forward, lstm_backward)
