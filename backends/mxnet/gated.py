"""Loops over time for the gated cells in ``fast``.

A tensor (B, G*H) holds all G gates in the order of their parameters, so a single product with W_h
(H, G*H) computes them all; W_T is the transpose of W_h. The elementwise factors of the backward
pass depend only on values from the forward pass. They are computed for all time steps at once, so
each step of the backward loop takes one matrix product and a few multiplications. Each loop returns
the initial and all later hidden states ((T+1)*B, H), the last state, and the values that its
backward pass needs.
"""

from mxnet import np, npx

from .products import chunk, columns, join, product, split, sum_rows, transpose, weight_grad


def tanh(z):
    """Compute the hyperbolic tangent with oneDNN, which is faster than np.tanh."""
    return npx.activation(z, "tanh")


def sigmoid(z):
    """Compute the logistic function with oneDNN, which is several times faster than npx.sigmoid."""
    return npx.activation(z, "sigmoid")


def gru_after(inputs, h_0, W_T, b_hh, options):
    """Run the GRU over inputs (T*B, 3H) from h_0 (B, H); return all h, the last h and caches."""
    size, hiddens, gates = h_0.shape[1], [h_0], []
    for x in split(inputs, len(h_0)):
        h, y = hiddens[-1], product(hiddens[-1], W_T)  # (B, 3H)
        z, r = chunk(sigmoid(columns(x, 0, 2 * size) + columns(y, 0, 2 * size)), 2)  # (B, H)
        y = columns(y, 2 * size, 3 * size) + b_hh
        h_tilde = tanh(columns(x, 2 * size, 3 * size) + r * y)
        hiddens.append(h_tilde + z * (h - h_tilde))
        gates.append((z, r, h_tilde, y))
    return np.concatenate(hiddens), hiddens[-1], *map(np.concatenate, zip(*gates))


def gru_after_backward(
    d_hiddens, prev_hiddens, hiddens, z, r, h_tilde, products, h_0, W_T, b_hh, options
):
    """Compute gradients w.r.t. pre-activations (T*B, 3H), W_T (3H, H) and b_hh (H,)."""
    size, W_h, coef_candidate = len(b_hh), transpose(W_T), (1 - z) * (1 - h_tilde * h_tilde)
    coef_y = join(
        (prev_hiddens - h_tilde) * z * (1 - z),
        coef_candidate * products * r * (1 - r),
        coef_candidate * r,
    )
    d_h, d_hiddens_total, dy = None, [], []  # dy: gradients w.r.t. the products
    steps = zip(*(split(x, len(h_0)) for x in (d_hiddens, coef_y, z)))
    for d_hidden, coef_y_t, z_t in reversed(list(steps)):
        d_h = d_hidden if d_h is None else d_h + d_hidden
        d_hiddens_total.append(d_h)
        dy.append(join(d_h, d_h, d_h) * coef_y_t)  # (B, 3H)
        d_h = d_h * z_t + product(dy[-1], W_h)
    dy = np.concatenate(dy[::-1])  # (T*B, 3H)
    dz_candidate = np.concatenate(d_hiddens_total[::-1]) * coef_candidate
    dz = join(columns(dy, 0, 2 * size), dz_candidate)
    return dz, weight_grad(prev_hiddens, dy), sum_rows(columns(dy, 2 * size, 3 * size))


def lstm(inputs, h_0, c_0, W_T, options):
    """Run the LSTM over inputs (T*B, 4H) from h_0 and c_0; return all h, last states and caches."""
    hiddens, cells, gates = [h_0], [c_0], []
    for x in split(inputs, len(h_0)):
        i, f, o, c_tilde = chunk(x + product(hiddens[-1], W_T), 4)  # (B, H)
        i, f, o, c_tilde = sigmoid(i), sigmoid(f), sigmoid(o), tanh(c_tilde)
        cells.append(f * cells[-1] + i * c_tilde)
        outputs = tanh(cells[-1])
        hiddens.append(o * outputs)
        gates.append((i, f, o, c_tilde, cells[-2], outputs))
    return np.concatenate(hiddens), hiddens[-1], cells[-1], *map(np.concatenate, zip(*gates))


# Hand-written backward pass of gates: autograd would differentiate every gate operation and
# compute W_h's gradient at every time step.
def lstm_backward(
    d_hiddens, prev_hiddens, hiddens, i, f, o, c_tilde, cells, outputs, h_0, c_0, W_T, options
):
    """Compute the pre-activation gradients dz (T*B, 4H) and the gradient w.r.t. W_T (4H, H)."""
    # Precomputed coefficients: a few large operations over all time steps are faster than many
    # small operations.
    coef_z = join(
        c_tilde * i * (1 - i),
        cells * f * (1 - f),
        outputs * o * (1 - o),
        i * (1 - c_tilde * c_tilde),
    )
    coef_c = o * (1 - outputs * outputs)
    steps = zip(*(split(x, len(h_0)) for x in (d_hiddens, coef_z, coef_c, f)))
    d_h = d_c = None
    dz, W_h = [], transpose(W_T)
    for d_hidden, coef_z_t, coef_c_t, f_t in reversed(list(steps)):
        d_h = d_hidden if d_h is None else d_h + d_hidden
        d_c = d_h * coef_c_t if d_c is None else d_c + d_h * coef_c_t
        dz.append(join(d_c, d_c, d_h, d_c) * coef_z_t)  # (B, 4H)
        d_h, d_c = product(dz[-1], W_h), d_c * f_t
    dz = np.concatenate(dz[::-1])  # (T*B, 4H)
    return dz, weight_grad(prev_hiddens, dz)
