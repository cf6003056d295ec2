"""The model of ``scratch``, optimized by hand.

It computes the same numbers, up to rounding. Each optimization has a name, under which a comment
below, or in ``products``, gives its reason and what it gains: the time of a training minibatch
without it relative to the time with it, with 64 and with 512 hidden units (B 32, T 35, V 28,
float32, one thread).
"""

from mxnet import autograd, np

from rnn_scratch.contract import bind

from . import scratch
from .graphs import graph
from .machine import to_arrays
from .products import affine, outer, product, split


def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    inputs = rows(tokens.T.reshape(-1), params)  # (T*B, H)
    hiddens, H = recurrence(inputs, params["W_hh"], *state, options)  # ((T+1)*B, H), (B, H)
    # One output layer: it does not feed back, so one product can serve all time steps.
    # Gain: 1.93, 1.39.
    return affine(hiddens[len(H) :], params["W_hq"], params["b_q"]), (H,)


def rows(tokens, params):
    """Rows of W_xh, or of W_e W_xh, for the tokens, and b_h added: tokens (...) to (..., H)."""
    # Rows instead of products: a one-hot vector times a matrix is one of the matrix's rows.
    # Gain: 1.00, 1.03.
    W_xh, b_h = params["W_xh"], params["b_h"]
    if tokens.size < len(params["b_q"]):  # fewer tokens than rows: a step of generating text
        embedded = np.take(params["W_e"], tokens, axis=0) @ W_xh if "W_e" in params else None
        return (np.take(W_xh, tokens, axis=0) if embedded is None else embedded) + b_h
    # Bias in the table: it is added to V rows instead of T*B.
    # Gain: 1.17, 1.18.
    return np.take((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h, tokens, axis=0)


# Graphs: each loop over time is recorded once and then executed as a whole. Called one by one from
# Python, small operations take less time than their calls.
# Gain: 2.28, 1.24.


@graph
def recurrence(inputs, W_hh, H, options):
    """Inputs (T*B, H) to hidden states ((T+1)*B, H), the first of which is H; and the last."""
    if len(inputs) == len(H):  # one time step: transposing would cost more than it gains
        hiddens = [H, scratch.activation(inputs + H @ W_hh, options)]
    else:
        hiddens, W_T = [H], W_hh.T
        for x in split(inputs, len(H)):
            hiddens.append(scratch.activation(x + product(hiddens[-1], W_T), options))  # (B, H)
    return np.concatenate(hiddens), hiddens[-1]


@graph
def recurrence_back(d_hiddens, before, after, W_hh, H, options):
    """Its backward pass: the gradients before the activation, dz (T*B, H), and of W_hh (H, H)."""
    ds, slopes = split(d_hiddens, len(H)), split(slope(after, options), len(H))
    dz = [ds[-1] * slopes[-1]]
    for d, s in zip(reversed(ds[:-1]), reversed(slopes[:-1])):
        dz.append((d + product(dz[-1], W_hh)) * s)  # (B, H)
    dz = np.concatenate(dz[::-1])  # (T*B, H)
    # One product per gradient: the sum over time is part of a matrix product over T*B rows.
    # Gain: 0.98, 1.21.
    return dz, outer(before, dz)


def backward(X, Y, state, params, options):
    """Backpropagation through time: what `gradients` returns."""
    # Hand-written backward pass: autograd would compute a product for W_hh at every time step. It
    # differentiates only what comes before the loop and what comes after it.
    # Gain: 2.18, 1.52.
    with autograd.record():
        inputs = rows(X.T.reshape(-1), params)  # (T*B, H)
    hiddens, H = recurrence(inputs, params["W_hh"], *state, options)  # ((T+1)*B, H), (B, H)
    before, after = hiddens[: -len(H)], hiddens[len(H) :]  # (T*B, H)
    after.attach_grad()
    with autograd.record():
        mean = scratch.loss(affine(after, params["W_hq"], params["b_q"]), Y)
    mean.backward()
    dz, d_W_hh = recurrence_back(after.grad, before, after, params["W_hh"], H, options)
    inputs.backward(dz)
    grads = {n: d_W_hh if n == "W_hh" else p.grad.copy() for n, p in params.items()}
    return mean.detach(), grads, scratch.detach((H,))


def slope(h, options):
    """The derivative of the activation, from its value h."""
    return 1 - h * h if options.activation == "tanh" else np.sign(h)  # ReLU is never below 0


def build(arrays, options):
    """The optimized model, with parameters that start at these arrays."""
    tensors = scratch.params(arrays, options)
    return bind(tensors, options, forward, scratch.state, to_arrays, backward)
