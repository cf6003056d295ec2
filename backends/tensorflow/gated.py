"""Loops over time for the gated cells in ``fast``.

A tensor (B, G*H) holds all G gates in the order of their parameters, so a single product with W_h
(H, G*H) computes them all. The elementwise factors of the backward pass depend only on values from
the forward pass. They are computed for all time steps at once, so each step of the backward loop
takes one matrix product and a few multiplications.
"""

import tensorflow as tf

from .products import product, split


def flatten(x):
    """Merge the time and batch axes: (T, B, H) to (T*B, H)."""
    return tf.reshape(x, (-1, x.shape[-1]))


def split_for_loop(W, inputs, options):
    """Split W into column blocks, unless W is used in only one product."""
    return split(W, options.device) if len(inputs) > 1 else [W]


def split_transposed(W, options):
    """Split W's transpose into column blocks; `fast.recurrence` explains the use of tf.einsum."""
    return split(tf.einsum("ij->ji", W), options.device)


def unstack_reversed(*tensors):
    """Unstack tensors (T, ...) along the time axis, from the last step to the first."""
    return reversed(list(zip(*map(tf.unstack, tensors))))


def recurrent_weight_grad(h, dz, options):
    """Return the gradient w.r.t. W_h (K, M), summed over time, for h (T, B, K) and dz (T, B, M)."""
    return product(tf.transpose(flatten(h)), split(flatten(dz), options.device))


def gru_after(inputs, h_0, W_h, b_hh, options):
    """Run the GRU over inputs (T, B, 3H) from h_0 (B, H); return hidden states (T, B, H)."""
    parts = [2 * h_0.shape[1], h_0.shape[1]]  # sizes of (z, r) and the candidate

    @tf.custom_gradient
    def loop(inputs, h_0, W_h, b_hh):
        """Compute the gates z and r, the candidate, and the hidden states."""
        W = split_for_loop(W_h, inputs, options)
        h, steps = h_0, []
        for x in tf.unstack(inputs):
            x_zr, x_candidate = tf.split(x, parts, 1)
            zr, reset_product = tf.split(product(h, W), parts, 1)
            z, r = tf.split(tf.sigmoid(x_zr + zr), 2, 1)  # (B, H)
            reset_product += b_hh
            h_tilde = tf.tanh(x_candidate + r * reset_product)
            steps.append((h, z, r, h_tilde, reset_product))
            h = h_tilde + z * (h - h_tilde)
        prev_hiddens, z, r, h_tilde, products = map(tf.stack, zip(*steps))  # (T, B, H)

        def backward(d_hiddens):
            """Backpropagate through the loop; return gradients w.r.t. inputs, h_0, W_h and b_hh."""
            W = split_transposed(W_h, options)
            coef_candidate = (1 - z) * (1 - h_tilde * h_tilde)
            factors = (
                z,
                r,
                (prev_hiddens - h_tilde) * z * (1 - z),
                coef_candidate * products * r * (1 - r),
                coef_candidate,
            )
            d_h, dx, dz = tf.zeros_like(h_0), [], []
            for step in unstack_reversed(d_hiddens, *factors):
                d_hidden, z_t, r_t, coef_z, coef_r, coef_candidate = step
                d_h += d_hidden
                d_z, d_r, d_h_tilde = d_h * coef_z, d_h * coef_r, d_h * coef_candidate
                dx.append(tf.concat([d_z, d_r, d_h_tilde], 1))
                dz.append(tf.concat([d_z, d_r, d_h_tilde * r_t], 1))
                d_h = d_h * z_t + product(dz[-1], W)
            dx, dz = tf.stack(dx[::-1]), tf.stack(dz[::-1])  # (T, B, 3H), of inputs and of products
            d_b_hh = tf.reduce_sum(dz[:, :, parts[0] :], (0, 1))
            return dx, d_h, recurrent_weight_grad(prev_hiddens, dz, options), d_b_hh

        return tf.concat([prev_hiddens[1:], h[None]], 0), backward

    return (loop(inputs, h_0, tf.convert_to_tensor(W_h), tf.convert_to_tensor(b_hh)),)


def lstm(inputs, h_0, c_0, W_h, options):
    """Run the LSTM over inputs (T, B, 4H) from h_0 and c_0; return hidden states and the last c."""

    # Hand-written backward pass of gates: the tape would differentiate every gate operation
    # and compute W_h's gradient at every time step.
    @tf.custom_gradient
    def loop(inputs, h_0, c_0, W_h):
        """Compute the gates i, f and o, the candidate, and the hidden and cell states."""
        W = split_for_loop(W_h, inputs, options)
        h, c, steps = h_0, c_0, []
        for x in tf.unstack(inputs):
            *ifo, c_tilde = tf.split(x + product(h, W), 4, 1)
            i, f, o = map(tf.sigmoid, ifo)  # (B, H)
            c_tilde = tf.tanh(c_tilde)
            next_c = f * c + i * c_tilde
            output = tf.tanh(next_c)
            steps.append((h, c, i, f, o, c_tilde, output))
            h, c = o * output, next_c
        prev_hiddens, cells, i, f, o, c_tilde, outputs = map(tf.stack, zip(*steps))  # (T, B, H)

        def backward(d_hiddens, d_c):
            """Backpropagate through the loop; return gradients w.r.t. inputs, h_0, c_0 and W_h."""
            W = split_transposed(W_h, options)
            # Precomputed coefficients: a few large operations over all time steps are faster than
            # many small operations.
            factors = (
                f,
                c_tilde * i * (1 - i),
                cells * f * (1 - f),
                outputs * o * (1 - o),
                i * (1 - c_tilde * c_tilde),
                o * (1 - outputs * outputs),
            )
            d_h, dz = tf.zeros_like(h_0), []
            for step in unstack_reversed(d_hiddens, *factors):
                d_hidden, f_t, coef_i, coef_f, coef_o, coef_candidate, coef_c = step
                d_h += d_hidden
                d_c += d_h * coef_c
                d_gates = [d_c * coef_i, d_c * coef_f, d_h * coef_o, d_c * coef_candidate]
                dz.append(tf.concat(d_gates, 1))
                d_c *= f_t
                d_h = product(dz[-1], W)
            dz = tf.stack(dz[::-1])  # (T, B, 4H)
            return dz, d_h, d_c, recurrent_weight_grad(prev_hiddens, dz, options)

        return (tf.concat([prev_hiddens[1:], h[None]], 0), c), backward

    return loop(inputs, h_0, c_0, tf.convert_to_tensor(W_h))
