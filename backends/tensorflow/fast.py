"""The model of ``scratch``, optimized by hand.

It computes the same numbers, up to rounding. Each optimization has a name, under which a comment
here or in the modules beside it gives its reason and what it gains: the time of a training
minibatch without it relative to the time with it (rnn, B 32, T 35, V 28, float32, one thread,
unless it says otherwise).
"""

from functools import partial

import tensorflow as tf

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import by_layer, join_gates, of_layer, split_gates, tokens_and_masks

from . import machine, scratch
from .gated import flatten, gru, gru_after, lstm
from .products import product, split


def params(arrays, options):
    """The parameters of ``scratch``, all gates side by side."""
    # Gates in one product: G gates are one matrix (H, G*H), which a layer multiplies with at once.
    # Gain (lstm): 1.13 with 64 hidden units, 1.00 with 512.
    return scratch.params(join_gates(arrays, options), options)


def forward(inputs, state, params, options):
    """All time steps: tokens (B, T), or these and masks (T, L, B, H), to logits (T*B, V)."""
    (tokens, masks), loop = tokens_and_masks(inputs), CELLS[options.cell]
    tokens, after, outputs = tf.transpose(tokens), (), None  # tokens (T, B)
    for layer, before in enumerate(by_layer(state, options)):
        own = of_layer(params, layer)
        x = rows(tokens, params) if layer == 0 else upwards(outputs, own)  # (T, B, G*H)
        hiddens, *last = loop(x, *before, own["W_h"], options)  # (T, B, H)
        outputs = hiddens if masks is None else hiddens * masks[:, layer]
        after += hiddens[-1], *last
    # One output layer: it does not feed back, so one product can serve all time steps.
    # Gain: 1.19 with 64 hidden units, 1.05 with 512.
    return flatten(outputs) @ params["W_hq"] + params["b_q"], after


def upwards(outputs, params):
    """What goes into a layer from the one below: (T, B, H) to (T, B, G*H), in one product."""
    inputs = flatten(outputs) @ params["W_x"] + params["b"]
    return tf.reshape(inputs, (*outputs.shape[:2], -1))


def rows(tokens, params):
    """Rows of W_x, or of W_e W_x, for the tokens, and b added: tokens (...) to (..., G*H)."""
    # Rows instead of products: a one-hot vector times a matrix is one of the matrix's rows.
    # Gain with 5,000 characters: 1.32 with 64 hidden units, 1.49 with 512.
    W_x, b = params["W_x"], params["b"]
    if tokens.shape.num_elements() < params["b_q"].shape[0]:  # a step of generating text
        embedded = tf.tensordot(gather(params["W_e"], tokens), W_x, 1) if "W_e" in params else None
        return (gather(W_x, tokens) if embedded is None else embedded) + b
    # Bias in the table: it is added to V rows instead of T*B.
    # Gain: 1.01 with 64 hidden units, 1.01 with 512.
    return gather((params["W_e"] @ W_x if "W_e" in params else W_x) + b, tokens)


@tf.custom_gradient
def gather(table, tokens):
    """Rows of the table (V, H), or (V, N): tokens (...) to (..., H), or (..., N)."""

    # Sums of sorted rows: of the gradient, one row for every token, TensorFlow sums the rows of
    # the same token faster if they are next to each other.
    # Gain with 5,000 characters: 1.00 with 64 hidden units, 1.00 with 512.
    def backward(d_rows):
        labels, d_rows = tf.reshape(tokens, [-1]), flatten(d_rows)  # (T*B,), (T*B, H)
        order = tf.argsort(labels)
        labels = tf.gather(labels, order)
        return tf.sparse.segment_sum(d_rows, order, labels, num_segments=table.shape[0]), None

    return tf.gather(table, tokens), backward


def recurrence(inputs, h_0, W_h, options):
    """The loop over time of `rnn`: inputs (T, B, H) and h_0 (B, H) to hidden states (T, B, H)."""

    # Hand-written backward pass: the tape would compute a product for W_h at every time step.
    # Gain: 1.37 with 64 hidden units, 1.46 with 512.
    relu = options.cell == "rnn-relu"

    @tf.custom_gradient
    def loop(inputs, h_0, W_h):
        # Column blocks: TensorFlow computes a product (B, H) @ (H, H) on one thread, and products
        # with blocks of the matrix on one thread each. In a single step, when text is generated,
        # splitting costs more than it gains.
        # Gain with 2 threads: 1.00 with 64 hidden units, 1.47 with 512.
        blocks = split(W_h, options.device) if inputs.shape[0] > 1 else [W_h]
        hiddens = [h_0]
        for x in tf.unstack(inputs):
            z = x + product(hiddens[-1], blocks)
            hiddens.append(tf.nn.relu(z) if relu else tf.tanh(z))  # (B, H)
        hiddens = tf.stack(hiddens)  # (T+1, B, H)

        def backward(d_hiddens):
            """Compute dz, the gradient before the activation, from the last step to the first."""
            # Transposed once: the compiler would merge tf.transpose into each of the T products,
            # and products with a transposed matrix are slower; it leaves tf.einsum as it is.
            # Gain: 1.02 with 64 hidden units, 1.13 with 512.
            blocks = split(tf.einsum("ij->ji", W_h), options.device)
            after = hiddens[1:]
            slope = tf.cast(after > 0, after.dtype) if relu else 1 - after * after
            ds, slopes = tf.unstack(d_hiddens), tf.unstack(slope)
            dz = [ds[-1] * slopes[-1]]
            for d, s in zip(reversed(ds[:-1]), reversed(slopes[:-1])):
                dz.append((d + product(dz[-1], blocks)) * s)  # (B, H)
            d_h, dz = product(dz[-1], blocks), tf.stack(dz[::-1])  # (B, H), (T, B, H)
            # One product per gradient: the sum over time is part of a matrix product.
            # Gain: 1.04 with 64 hidden units, 1.13 with 512.
            before, blocks = flatten(hiddens[:-1]), split(flatten(dz), options.device)
            return dz, d_h, product(tf.transpose(before), blocks)

        return hiddens[1:], backward

    return (loop(inputs, h_0, tf.convert_to_tensor(W_h)),)


CELLS = {
    "rnn": recurrence,
    "gru": gru,
    "gru-after": gru_after,
    "lstm": lstm,
    "rnn-relu": recurrence,
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

    # Graphs: compiled, so that a step of generating text is one call of TensorFlow instead of one
    # for each operation. Only tokens and state are arguments, as TensorFlow looks at every tensor
    # among the arguments at every call.
    # Gain in generation: 3.00 with 64 hidden units, 2.96 with 512.
    @machine.on(options.device)
    @tf.function
    def graph(inputs, state):
        return forward(inputs, state, tensors, options)

    return Model(tensors, options, graph, partial(scratch.state, options=options), to_arrays)
