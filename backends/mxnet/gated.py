"""The loops over time of the gated cells, for ``fast``.

The gates stand side by side, in the order of their parameters: G gates in (B, G*H), so that one
product with W_h (H, G*H), of which W_T is the transpose, serves all of them. What the backward pass
multiplies with, apart from W_h, depends on values of the forward pass only: these coefficients are
computed for all time steps at once, and between two products the backward pass has only a few
multiplications left.

A loop returns the hidden states ((T+1)*B, H), the first of which is the one before the first token,
then the last state, and then what its backward pass needs.
"""

from mxnet import np, npx

from .graphs import graph
from .products import chunk, columns, join, outer, product, split, transpose


def tanh(z):
    """Hyperbolic tangent, in a form that is faster than np.tanh: oneDNN's."""
    return npx.activation(z, "tanh")


def sigmoid(z):
    """Between 0 and 1, in a form that is several times faster than npx.sigmoid: oneDNN's."""
    return npx.activation(z, "sigmoid")


@graph
def gru(inputs, h_0, W_T, options):
    """Inputs (T*B, 3H) and a state (B, H) to all hidden states; and the gates z, r, and h."""
    size = h_0.shape[1]
    W_zr, W_new = W_T[: 2 * size], W_T[2 * size :]
    hiddens, gates = [h_0], []
    for x in split(inputs, len(h_0)):
        h = hiddens[-1]
        z, r = chunk(sigmoid(columns(x, 0, 2 * size) + product(h, W_zr)), 2)  # (B, H)
        new = tanh(columns(x, 2 * size, 3 * size) + product(r * h, W_new))
        hiddens.append(new + z * (h - new))
        gates.append((z, r, new))
    return np.concatenate(hiddens), hiddens[-1], *map(np.concatenate, zip(*gates))


@graph
def gru_back(d_hiddens, before, after, z, r, new, h_0, W_T, options):
    """Its backward pass: the gradients before the activations, dz (T*B, 3H), and of W_T (3H, H)."""
    size = h_0.shape[1]
    W_zr, W_new = transpose(W_T[: 2 * size]), transpose(W_T[2 * size :])
    to_z, to_r = (before - new) * z * (1 - z), before * r * (1 - r)
    to_new = (1 - z) * (1 - new * new)
    steps = zip(*(split(x, len(h_0)) for x in (d_hiddens, to_z, to_r, to_new, z, r)))
    d_h, dz_zr, dz_new = None, [], []
    for d, to_z, to_r, to_new, z_t, r_t in reversed(list(steps)):
        d_h = d if d_h is None else d_h + d
        dz_new.append(to_new * d_h)
        d_reset = product(dz_new[-1], W_new)
        dz_zr.append(join(to_z * d_h, to_r * d_reset))
        d_h = d_h * z_t + d_reset * r_t + product(dz_zr[-1], W_zr)
    dz_zr, dz_new = np.concatenate(dz_zr[::-1]), np.concatenate(dz_new[::-1])
    return join(dz_zr, dz_new), np.concatenate((outer(before, dz_zr), outer(r * before, dz_new)))


@graph
def gru_after(inputs, h_0, W_T, options):
    """The same for the reset gate after the product; and the product for the new values, too."""
    size, hiddens, gates = h_0.shape[1], [h_0], []
    for x in split(inputs, len(h_0)):
        h, y = hiddens[-1], product(hiddens[-1], W_T)  # (B, 3H)
        z, r = chunk(sigmoid(columns(x, 0, 2 * size) + columns(y, 0, 2 * size)), 2)  # (B, H)
        y = columns(y, 2 * size, 3 * size)
        new = tanh(columns(x, 2 * size, 3 * size) + r * y)
        hiddens.append(new + z * (h - new))
        gates.append((z, r, new, y))
    return np.concatenate(hiddens), hiddens[-1], *map(np.concatenate, zip(*gates))


@graph
def gru_after_back(d_hiddens, before, after, z, r, new, products, h_0, W_T, options):
    """Its backward pass: the gradients before the activations, dz (T*B, 3H), and of W_T (3H, H)."""
    W_h, to_new = transpose(W_T), (1 - z) * (1 - new * new)
    to_y = join((before - new) * z * (1 - z), to_new * products * r * (1 - r), to_new * r)
    d_h, ds, dy = None, [], []  # dy: the gradients of the products
    for d, to_y_t, z_t in reversed(list(zip(*(split(x, len(h_0)) for x in (d_hiddens, to_y, z))))):
        d_h = d if d_h is None else d_h + d
        ds.append(d_h)
        dy.append(join(d_h, d_h, d_h) * to_y_t)  # (B, 3H)
        d_h = d_h * z_t + product(dy[-1], W_h)
    dy = np.concatenate(dy[::-1])  # (T*B, 3H)
    dz_new = np.concatenate(ds[::-1]) * to_new
    return join(columns(dy, 0, 2 * h_0.shape[1]), dz_new), outer(before, dy)


@graph
def lstm(inputs, h_0, c_0, W_T, options):
    """Inputs (T*B, 4H), h_0 and c_0 (B, H) to all h, and both states; and what to save."""
    hiddens, cells, gates = [h_0], [c_0], []
    for x in split(inputs, len(h_0)):
        i, f, o, new = chunk(x + product(hiddens[-1], W_T), 4)  # (B, H)
        i, f, o, new = sigmoid(i), sigmoid(f), sigmoid(o), tanh(new)
        cells.append(f * cells[-1] + i * new)
        outputs = tanh(cells[-1])
        hiddens.append(o * outputs)
        gates.append((i, f, o, new, cells[-2], outputs))
    return np.concatenate(hiddens), hiddens[-1], cells[-1], *map(np.concatenate, zip(*gates))


# Hand-written backward pass of gates: autograd would go back through every operation of the gates,
# and compute a product for W_h, at every time step.
# Gain (lstm): 1.55 with 64 hidden units, 1.33 with 512.
@graph
def lstm_back(d_hiddens, before, after, i, f, o, new, cells, outputs, h_0, c_0, W_T, options):
    """Its backward pass: the gradients before the activations, dz (T*B, 4H), and of W_T (4H, H)."""
    # Coefficients at once: they depend on the forward pass only, and a few operations for all time
    # steps take less time than many small ones.
    # Gain (lstm): 1.11 with 64 hidden units, 1.00 with 512.
    to_z = join(
        new * i * (1 - i),
        cells * f * (1 - f),
        outputs * o * (1 - o),
        i * (1 - new * new),
    )
    to_c = o * (1 - outputs * outputs)
    steps = zip(*(split(x, len(h_0)) for x in (d_hiddens, to_z, to_c, f)))
    d_h = d_c = None
    dz, W_h = [], transpose(W_T)
    for d, to_z_t, to_c_t, f_t in reversed(list(steps)):
        d_h = d if d_h is None else d_h + d
        d_c = d_h * to_c_t if d_c is None else d_c + d_h * to_c_t
        dz.append(join(d_c, d_c, d_h, d_c) * to_z_t)  # (B, 4H)
        d_h, d_c = product(dz[-1], W_h), d_c * f_t
    dz = np.concatenate(dz[::-1])  # (T*B, 4H)
    return dz, outer(before, dz)
