"""The model of ``scratch``, optimized by hand.

It computes the same numbers, up to rounding. Each optimization has a name, under which a comment
here or in the modules beside it gives its reason and what it gains: the time of a training
minibatch without it relative to the time with it (rnn, B 32, T 35, V 28, float32, one thread,
unless it says otherwise).
"""

from functools import partial

import jax
import jax.numpy as jnp

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import by_layer, join_gates, of_layer, split_gates, tokens_and_masks

from . import machine, scratch
from .gated import backwards, flatten, gru, gru_after, lstm
from .products import num_parts


def params(arrays, options):
    """The parameters of ``scratch``, all gates side by side."""
    # Gates in one product: G gates are one matrix (H, G*H), which a layer multiplies with at once.
    # Gain (lstm): 1.18 with 64 hidden units, 1.13 with 512.
    return scratch.params(join_gates(arrays, options), options)


def forward(inputs, state, params, options):
    """All time steps: tokens (B, T), or these and masks (T, L, B, H), to logits (T*B, V)."""
    (tokens, masks), loop = tokens_and_masks(inputs), CELLS[options.cell]
    after, outputs = (), None
    for layer, before in enumerate(by_layer(state, options)):
        own = of_layer(params, layer)
        x = rows(tokens.T, params) if layer == 0 else upwards(outputs, own)  # (T, B, G*H)
        hiddens, *last = loop(x, *before, own["W_h"])  # (T, B, H)
        outputs = hiddens if masks is None else hiddens * masks[:, layer]
        after += hiddens[-1], *last
    # One output layer: it does not feed back, so one product can serve all time steps.
    # Gain: 2.04 with 64 hidden units, 1.45 with 512.
    W_hq = params["W_hq"] if tokens.shape[1] == 1 else narrow(params["W_hq"])
    return flatten(outputs) @ W_hq + params["b_q"], after


def narrow(W):
    """The same W (H, V), of which the gradient takes less time if V is small."""
    # For the transpose the gradient is d.T @ x, which takes a quarter of the time of x.T @ d (28
    # characters). Without the barrier the compiler would make the one of the other.
    return jax.lax.optimization_barrier(W.T).T if W.shape[1] < W.shape[0] else W


def upwards(outputs, params):
    """What goes into a layer from the one below: (T, B, H) to (T, B, G*H), in one product."""
    inputs = flatten(outputs) @ params["W_x"] + params["b"]
    return inputs.reshape(*outputs.shape[:2], -1)


def rows(tokens, params):
    """Rows of W_x, or of W_e W_x, for the tokens, and b added: tokens (...) to (..., G*H)."""
    # Rows instead of products: a one-hot vector times a matrix is one of the matrix's rows.
    # Gain: 1.22 with 64 hidden units, 1.16 with 512.
    W_x, b = params["W_x"], params["b"]
    if tokens.size < len(params["b_q"]):  # fewer tokens than rows: a step of generating text
        return (params["W_e"][tokens] @ W_x if "W_e" in params else W_x[tokens]) + b
    # Bias in the table: it is added to V rows instead of T*B.
    # Gain: 1.06 with 64 hidden units, 1.06 with 512.
    return ((params["W_e"] @ W_x if "W_e" in params else W_x) + b)[tokens]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(relu, inputs, h_0, W_h):
    """The loop over time of `rnn`: inputs (T, B, H) and h_0 (B, H) to hidden states (T, B, H)."""
    result, _ = recurrence_forward(relu, inputs, h_0, W_h)
    return result


def recurrence_forward(relu, inputs, h_0, W_h):
    """Compute the hidden states; and what the backward pass needs."""
    activation = jax.nn.relu if relu else jnp.tanh

    # Scan: the compiler sees a loop instead of T time steps one after another. It is done sooner,
    # and the code of one step, with its transposed matrix below, serves all of them.
    # Gain: 0.99 with 64 hidden units, 1.87 with 512.
    def step(W_h, h, x):
        h = activation(x + h @ W_h)  # (B, H)
        return h, h

    _, hiddens = by_rows(jax.lax.scan, step, W_h, h_0, inputs)
    return (hiddens,), (hiddens, h_0, W_h)


def recurrence_back(relu, saved, d_result):
    """Compute dz, the gradient before the activation, from the last time step to the first."""
    # Hand-written backward pass: JAX would compute a product for W_h at every time step.
    # Gain: 1.12 with 64 hidden units, 2.14 with 512.
    (d_hiddens,), (hiddens, h_0, W_h) = d_result, saved
    # Transposed once: before the loop, as products with a transposed matrix are slower, and the
    # compiler does not move it out of the loop.
    # Gain: 1.05 with 64 hidden units, 2.00 with 512.
    W_T = W_h.T

    def step(W_T, d_h, factors):
        d, s = factors
        dz = (d_h + d) * s  # (B, H)
        return dz @ W_T, dz

    slope = (hiddens > 0).astype(hiddens.dtype) if relu else 1 - hiddens * hiddens
    d_h, dz = by_rows(backwards, step, W_T, jnp.zeros_like(h_0), (d_hiddens, slope))
    # One product per gradient: the sum over time is part of a matrix product.
    # Gain: 1.07 with 64 hidden units, 1.58 with 512.
    before = jnp.concatenate((h_0[None], hiddens[:-1]))  # (T, B, H)
    return dz, d_h, flatten(before).T @ flatten(dz)


recurrence.defvjp(recurrence_forward, recurrence_back)


def by_rows(scan, step, W, state, values):
    """`scan` of a step that takes W (H, H), too, from a state (B, H), over values (T, B, H)."""
    parts, H = num_parts(len(state), W.size), len(W)
    if parts == 1:
        return scan(partial(step, W), state, values)
    # Rows in parts: the threads share a product of few rows badly, so each has rows of its own, and
    # a copy of W: with one W the compiler would make one product of theirs.
    # Gain with 2 threads: 1.00 with 64 hidden units, 1.16 with 512.
    state = state.reshape(parts, -1, H)
    values = jax.tree.map(lambda x: x.reshape(len(x), parts, -1, H), values)
    scans = jax.vmap(lambda W, *sequences: scan(partial(step, W), *sequences), (0, 0, 1), (0, 1))
    state, results = scans(jnp.stack([W] * parts), state, values)
    return state.reshape(-1, H), results.reshape(len(results), -1, H)


CELLS = {
    "rnn": partial(recurrence, False),
    "gru": gru,
    "gru-after": gru_after,
    "lstm": lstm,
    "rnn-relu": partial(recurrence, True),
}


def build(arrays, options):
    """The optimized model, with parameters that start at these arrays."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f"The optimized model has no cell {options.cell!r}.\nUse --model scratch."
        )
    tensors = params(arrays, options)

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options)

    # Outside of a compiled function, jax.lax.scan compiles its loop at every call.
    compiled = jax.jit(partial(forward, options=options))

    def bound(inputs, state, params=tensors):
        return compiled(inputs, state, params)

    return Model(tensors, options, bound, partial(scratch.state, options=options), to_arrays)
