"""The loops over time of the gated cells, for ``fast``.

The gates stand side by side, in the order of their parameters: G gates in (B, G*H), so that one
product with W_h (H, G*H) serves all of them.
"""

import jax
import jax.numpy as jnp


def flatten(x):
    """All time steps below one another: (T, B, H) to (T*B, H)."""
    return x.reshape(-1, x.shape[-1])


def backwards(step, state, values):
    """A scan from the last time step to the first."""
    return jax.lax.scan(step, state, values, reverse=True)


@jax.custom_vjp
def gru(inputs, h_0, W_h):
    """Inputs (T, B, 3H) and a state (B, H) to all hidden states (T, B, H)."""
    result, _ = gru_forward(inputs, h_0, W_h)
    return result


def gru_forward(inputs, h_0, W_h):
    """Compute the gates z, r, and h for the new values, and the hidden states."""
    W_zr, W_new = jnp.split(W_h, [2 * h_0.shape[1]], 1)

    def step(h, x):
        x_zr, x_new = jnp.split(x, [2 * h_0.shape[1]], 1)
        z, r = jnp.split(jax.nn.sigmoid(x_zr + h @ W_zr), 2, 1)  # (B, H)
        reset = r * h
        new = jnp.tanh(x_new + reset @ W_new)
        after = z * h + (1 - z) * new
        return after, (after, h, z, r, new, reset)

    _, (hiddens, *saved) = jax.lax.scan(step, h_0, inputs)  # (T, B, H)
    return (hiddens,), (saved, W_h)


def gru_back(saved, d_result):
    """Compute dz, the gradient before the activations, from the last time step to the first."""
    (d_hiddens,), ((before, z, r, new, resets), W_h) = d_result, saved
    W_T_zr, W_T_new = jnp.split(W_h.T, [2 * z.shape[2]])  # transposed once, before the loop

    def step(d_h, values):
        d, h, z, r, new = values
        d_h = d_h + d
        d_new = d_h * (1 - z) * (1 - new * new)
        d_reset = d_new @ W_T_new
        d_z, d_r = d_h * (h - new) * z * (1 - z), d_reset * h * r * (1 - r)
        d_zr = jnp.concatenate((d_z, d_r), 1)
        d_h = d_h * z + d_reset * r + d_zr @ W_T_zr
        return d_h, jnp.concatenate((d_zr, d_new), 1)

    values = d_hiddens, before, z, r, new
    d_h, dz = backwards(step, jnp.zeros_like(z[0]), values)  # (B, H), (T, B, 3H)
    d_zr, d_new = jnp.split(dz, [2 * z.shape[2]], 2)
    products = flatten(before).T @ flatten(d_zr), flatten(resets).T @ flatten(d_new)
    return dz, d_h, jnp.concatenate(products, 1)


gru.defvjp(gru_forward, gru_back)


@jax.custom_vjp
def gru_after(inputs, h_0, W_h):
    """The same for the reset gate after the product."""
    result, _ = gru_after_forward(inputs, h_0, W_h)
    return result


def gru_after_forward(inputs, h_0, W_h):
    """Compute the gates z, r, and h for the new values, and the hidden states."""

    def step(h, x):
        x_zr, x_new = jnp.split(x, [2 * h_0.shape[1]], 1)
        zr, product = jnp.split(h @ W_h, [2 * h_0.shape[1]], 1)
        z, r = jnp.split(jax.nn.sigmoid(x_zr + zr), 2, 1)  # (B, H)
        new = jnp.tanh(x_new + r * product)
        after = z * h + (1 - z) * new
        return after, (after, h, z, r, new, product)

    _, (hiddens, *saved) = jax.lax.scan(step, h_0, inputs)  # (T, B, H)
    return (hiddens,), (saved, W_h)


def gru_after_back(saved, d_result):
    """Compute dz, the gradients of the products, from the last time step to the first."""
    (d_hiddens,), ((before, z, r, new, products), W_h) = d_result, saved
    W_T = W_h.T

    def step(d_h, values):
        d, h, z, r, new, product = values
        d_h = d_h + d
        d_new = d_h * (1 - z) * (1 - new * new)
        d_z, d_r = d_h * (h - new) * z * (1 - z), d_new * product * r * (1 - r)
        dz = jnp.concatenate((d_z, d_r, d_new * r), 1)
        return d_h * z + dz @ W_T, (dz, d_new)

    values = d_hiddens, before, z, r, new, products
    d_h, (dz, d_new) = backwards(step, jnp.zeros_like(z[0]), values)
    d_inputs = jnp.concatenate((dz[:, :, : 2 * z.shape[2]], d_new), 2)  # (T, B, 3H)
    return d_inputs, d_h, flatten(before).T @ flatten(dz)


gru_after.defvjp(gru_after_forward, gru_after_back)


@jax.custom_vjp
def lstm(inputs, h_0, c_0, W_h):
    """Inputs (T, B, 4H), h_0 and c_0 (B, H) to all h (T, B, H), and the last c."""
    result, _ = lstm_forward(inputs, h_0, c_0, W_h)
    return result


def lstm_forward(inputs, h_0, c_0, W_h):
    """Compute the gates i, f, o, and c for the new values, and both states."""

    def step(state, x):
        h, c = state
        *ifo, new = jnp.split(x + h @ W_h, 4, 1)
        i, f, o = map(jax.nn.sigmoid, ifo)  # (B, H)
        new = jnp.tanh(new)
        after = f * c + i * new
        output = jnp.tanh(after)
        return (o * output, after), (o * output, h, c, i, f, o, new, output)

    (_, last), (hiddens, *saved) = jax.lax.scan(step, (h_0, c_0), inputs)  # (T, B, H)
    return (hiddens, last), (saved, W_h)


def lstm_back(saved, d_result):
    """Compute dz, the gradient before the activations, from the last time step to the first."""
    # Hand-written backward pass of gates: JAX would go back through every operation of the gates,
    # and compute a product for W_h, at every time step.
    # Gain (lstm): 1.38 with 64 hidden units, 2.42 with 512.
    (d_hiddens, d_c), ((before, cells, i, f, o, new, outputs), W_h) = d_result, saved
    W_T = W_h.T

    def step(d_state, values):
        (d_h, d_c), (d, c, i, f, o, new, output) = d_state, values
        d_h = d_h + d
        d_c = d_c + d_h * o * (1 - output * output)
        parts = (
            d_c * new * i * (1 - i),
            d_c * c * f * (1 - f),
            d_h * output * o * (1 - o),
            d_c * i * (1 - new * new),
        )
        dz = jnp.concatenate(parts, 1)
        return (dz @ W_T, d_c * f), dz

    values = d_hiddens, cells, i, f, o, new, outputs
    (d_h, d_c), dz = backwards(step, (jnp.zeros_like(f[0]), d_c), values)
    return dz, d_h, d_c, flatten(before).T @ flatten(dz)  # (T, B, 4H), (B, H), (B, H), (H, 4H)


lstm.defvjp(lstm_forward, lstm_back)
