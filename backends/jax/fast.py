"""The ``scratch`` model, optimized by hand; its results match those of ``scratch`` up to rounding.

A comment here or in a sibling module explains each main optimization and starts with its name. The
project's website lists the speedups.
"""

from functools import partial

import jax
import jax.numpy as jnp

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import join_gates, select_layer, split_by_layer, split_gates

from . import machine, scratch
from .gated import flatten, gru_after, lstm, reverse_scan
from .products import num_row_blocks


def init_params(arrays, options):
    """Create the parameters of ``scratch`` with the gates concatenated."""
    # Fused gates: the weights of all G gates form one matrix (H, G*H).
    return scratch.init_params(join_gates(arrays, options), options)


@partial(jax.jit, static_argnames="options")
def forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    # Outside a jitted function, jax.lax.scan would compile its loop on every call.
    loop = CELLS[options.cell]
    next_state, outputs = (), None
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_params = select_layer(params, layer)
        if layer == 0:
            inputs = lookup_inputs(tokens.T, params)  # (T, B, G*H)
        else:
            inputs = project_inputs(outputs, layer_params)
        hiddens, *c = loop(inputs, *layer_state, *recurrent_params(layer_params))  # (T, B, H)
        outputs = hiddens if masks is None else hiddens * masks[:, layer]
        next_state += hiddens[-1], *c
    # Batched output layer: the logits are not fed back, so one product computes all of them.
    W_hq = params["W_hq"] if tokens.shape[1] == 1 else transpose_barrier(params["W_hq"])
    return flatten(outputs) @ W_hq + params["b_q"], next_state


def gradients(params, batch, state, options):
    """Return the results of ``scratch.gradients`` for this module's `forward`."""
    variant_forward = partial(forward, masks=batch.masks)
    return scratch.gradients(params, batch, state, options, variant_forward)


def recurrent_params(params):
    """Return a layer's recurrent weights W_h (H, G*H) and, for `gru-after`, the bias b_hh (H,)."""
    return [params[name] for name in ("W_h", "b_hh") if name in params]


def transpose_barrier(W):
    """Return W (H, V); if V < H, arrange it so that XLA computes its gradient faster."""
    # Given hidden states x and logit gradients d, the gradient of W.T is d.T @ x, 4 times faster to
    # compute than x.T @ d (measured with V = 28). Without the barrier, XLA would compute x.T @ d.
    return jax.lax.optimization_barrier(W.T).T if W.shape[1] < W.shape[0] else W


def project_inputs(outputs, params):
    """Project a layer's outputs (T, B, H) to the next layer's gate inputs (T, B, G*H)."""
    inputs = flatten(outputs) @ params["W_x"] + params["b"]
    return inputs.reshape(*outputs.shape[:2], -1)


def lookup_inputs(tokens, params):
    """Look up gate inputs (..., G*H) for tokens (...): rows of W_x (or W_e W_x) plus b."""
    # Embedding lookup: multiplying by one-hot vectors only selects rows of a matrix.
    W_x, b = params["W_x"], params["b"]
    if tokens.size < len(params["b_q"]):  # text generation: fewer tokens than table rows
        return (params["W_e"][tokens] @ W_x if "W_e" in params else W_x[tokens]) + b
    # Bias folded into the table: add b to V table rows instead of T*B input rows.
    return ((params["W_e"] @ W_x if "W_e" in params else W_x) + b)[tokens]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(relu, inputs, h_0, W_h):
    """Run the RNN over inputs (T, B, H) from h_0 (B, H); return hidden states (T, B, H)."""
    result, _ = recurrence_forward(relu, inputs, h_0, W_h)
    return result


def recurrence_forward(relu, inputs, h_0, W_h):
    """Compute the hidden states and the values that the backward pass needs."""
    activation = jax.nn.relu if relu else jnp.tanh

    # Scan: XLA compiles a loop instead of T unrolled time steps. Compilation is faster, and all
    # time steps share the loop's code and, in the backward pass, the transposed matrix.
    def step(W_h, h, x):
        h = activation(x + h @ W_h)  # (B, H)
        return h, h

    _, hiddens = scan_in_row_blocks(jax.lax.scan, step, W_h, h_0, inputs)
    return (hiddens,), (hiddens, h_0, W_h)


def recurrence_backward(relu, cache, d_result):
    """Backpropagate through `recurrence`; return gradients w.r.t. inputs (T, B, H), h_0 and W_h."""
    # Hand-written backward pass: JAX would compute W_h's gradient at every time step.
    (d_hiddens,), (hiddens, h_0, W_h) = d_result, cache
    # Hoisted transpose: transpose before the loop, because products with a transposed matrix are
    # slower, and XLA does not move the transpose out of the loop.
    W_T = W_h.T

    def step(W_T, d_h, factors):
        d_hidden, slope = factors
        dz = (d_h + d_hidden) * slope  # (B, H)
        return dz @ W_T, dz

    slopes = (hiddens > 0).astype(hiddens.dtype) if relu else 1 - hiddens * hiddens
    d_h, dz = scan_in_row_blocks(reverse_scan, step, W_T, jnp.zeros_like(h_0), (d_hiddens, slopes))
    # Batched weight gradient: a single matrix product also sums over time.
    prev_hiddens = jnp.concatenate((h_0[None], hiddens[:-1]))  # (T, B, H)
    return dz, d_h, flatten(prev_hiddens).T @ flatten(dz)


recurrence.defvjp(recurrence_forward, recurrence_backward)


def scan_in_row_blocks(scan, step, W, state, values):
    """Scan over values (T, B, H) from `state` (B, H); the first argument of `step` is W (H, H)."""
    num_blocks, H = num_row_blocks(len(state), W.size), len(W)
    if num_blocks == 1:
        return scan(partial(step, W), state, values)
    # Row blocking: XLA parallelizes a product with few rows poorly, so each thread multiplies its
    # own rows by its own copy of W. With a shared W, XLA would merge the products.
    state = state.reshape(num_blocks, -1, H)
    values = jax.tree.map(lambda x: x.reshape(len(x), num_blocks, -1, H), values)
    scans = jax.vmap(lambda W, *args: scan(partial(step, W), *args), (0, 0, 1), (0, 1))
    state, results = scans(jnp.stack([W] * num_blocks), state, values)
    return state.reshape(-1, H), results.reshape(len(results), -1, H)


CELLS = {
    "rnn": partial(recurrence, False),
    "gru-after": gru_after,
    "lstm": lstm,
    "rnn-relu": partial(recurrence, True),
}


def build(arrays, options):
    """Build the optimized model from initial parameter values."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f'The `fast` variant has no cell {options.cell}.\nUse `variant="scratch"`.'
        )

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options)

    params, train_minibatch = init_params(arrays, options), scratch.train_minibatch
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)
