"""The ``scratch`` model, optimized by hand; its results match those of ``scratch`` up to rounding.

A comment here or in a sibling module explains each main optimization and starts with its name. The
project's website lists the speedups.
"""

from functools import partial

import tensorflow as tf

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import join_gates, select_layer, split_by_layer, split_gates

from . import machine, scratch
from .gated import flatten, gru_after, lstm, recurrent_weight_grad, split_for_loop, unstack_reversed
from .machine import jit
from .products import product, split


def init_params(arrays, options):
    """Create the parameters of ``scratch`` with the gates concatenated."""
    # Fused gates: the weights of all G gates form one matrix (H, G*H).
    return scratch.init_params(join_gates(arrays, options), options)


# Graphs: generating a token takes one call to TensorFlow instead of one per operation.
@jit
def forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    loop = CELLS[options.cell]
    tokens, next_state, outputs = tf.transpose(tokens), (), None  # tokens: (T, B)
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_params = select_layer(params, layer)
        if layer == 0:
            inputs = lookup_inputs(tokens, params)  # (T, B, G*H)
        else:
            inputs = project_inputs(outputs, layer_params)
        recurrent = recurrent_params(layer_params)
        hiddens, *c = loop(inputs, *layer_state, *recurrent, options)  # (T, B, H)
        outputs = hiddens if masks is None else hiddens * masks[:, layer]
        next_state += hiddens[-1], *c
    # Batched output layer: the logits are not fed back, so one product computes all of them.
    return flatten(outputs) @ params["W_hq"] + params["b_q"], next_state


def gradients(params, batch, state, options):
    """Return the results of ``scratch.gradients`` for this module's `forward`."""
    variant_forward = partial(forward, masks=batch.masks)
    return scratch.gradients(params, batch, state, options, variant_forward)


def recurrent_params(params):
    """Return a layer's recurrent weights W_h (H, G*H) and, for `gru-after`, the bias b_hh (H,)."""
    return [params[name] for name in ("W_h", "b_hh") if name in params]


def project_inputs(outputs, params):
    """Project a layer's outputs (T, B, H) to the next layer's gate inputs (T, B, G*H)."""
    inputs = flatten(outputs) @ params["W_x"] + params["b"]
    return tf.reshape(inputs, (*outputs.shape[:2], -1))


def lookup_inputs(tokens, params):
    """Look up gate inputs (..., G*H) for tokens (...): rows of W_x (or W_e W_x) plus b."""
    # Embedding lookup: multiplying by one-hot vectors only selects rows of a matrix.
    table = params["W_x"]
    if "W_e" in params:
        if tokens.shape.num_elements() < params["b_q"].shape[0]:  # text generation
            return tf.tensordot(tf.gather(params["W_e"], tokens), table, 1) + params["b"]
        table = params["W_e"] @ table
    return tf.gather(table, tokens) + params["b"]


def recurrence(inputs, h_0, W_h, options):
    """Run the RNN over inputs (T, B, H) from h_0 (B, H); return hidden states (T, B, H)."""

    # Hand-written backward pass: the tape would compute W_h's gradient at every time step.
    relu = options.cell == "rnn-relu"

    @tf.custom_gradient
    def loop(inputs, h_0, W_h):
        """Compute the hidden states."""
        # Column blocks: TensorFlow parallelizes a product (B, H) @ (H, H) poorly, but computes
        # products with blocks of the matrix in parallel. For a single step, splitting takes more
        # time than it saves.
        W = split_for_loop(W_h, inputs, options)
        hiddens = [h_0]
        for x in tf.unstack(inputs):
            z = x + product(hiddens[-1], W)
            hiddens.append(tf.nn.relu(z) if relu else tf.tanh(z))  # (B, H)
        hiddens = tf.stack(hiddens)  # (T+1, B, H)

        def backward(d_hiddens):
            """Backpropagate through the loop; return gradients w.r.t. inputs, h_0 and W_h."""
            # Hoisted transpose: TensorFlow would merge tf.transpose into all T products, and
            # products with a transposed matrix are slower. TensorFlow does not merge tf.einsum.
            W = split(tf.einsum("ij->ji", W_h), options.device)
            h = hiddens[1:]
            slopes = tf.cast(h > 0, h.dtype) if relu else 1 - h * h
            dz = [d_hiddens[-1] * slopes[-1]]
            for d_hidden, slope in unstack_reversed(d_hiddens[:-1], slopes[:-1]):
                dz.append((d_hidden + product(dz[-1], W)) * slope)  # (B, H)
            d_h, dz = product(dz[-1], W), tf.stack(dz[::-1])  # (B, H), (T, B, H)
            # Batched weight gradient: a single matrix product also sums over time.
            return dz, d_h, recurrent_weight_grad(hiddens[:-1], dz, options)

        return hiddens[1:], backward

    return (loop(inputs, h_0, tf.convert_to_tensor(W_h)),)


CELLS = {
    "rnn": recurrence,
    "gru-after": gru_after,
    "lstm": lstm,
    "rnn-relu": recurrence,
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
