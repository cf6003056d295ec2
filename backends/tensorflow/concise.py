"""The model built from the Keras layers ``SimpleRNN``, ``GRU``, ``LSTM`` and ``Dense``.

The layers have no values of their own: `forward` passes them the parameters. `make_layers` sets
KERAS_BACKEND before it imports Keras, which reads this variable only once.
"""

import os
from functools import cache, partial

import tensorflow as tf

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import join_gates, select_layer, split_by_layer, split_gates

from . import machine, scratch
from .machine import jit

# For each cell: the layer, its arguments and its gate order.
LAYERS = {
    "rnn": ("SimpleRNN", {}, "h"),
    "gru": ("GRU", {"reset_after": False}, "zrh"),
    "gru-after": ("GRU", {"reset_after": True}, "zrh"),
    "lstm": ("LSTM", {}, "ifco"),
    "rnn-relu": ("SimpleRNN", {"activation": "relu"}, "h"),
}


def init_params(arrays, options):
    """Create the parameters of ``scratch`` in the layers' layout."""
    _, _, gates = LAYERS[options.cell]
    return scratch.init_params(join_gates(arrays, options, gates), options)


@jit
def forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    keras, (embedding, layers, output) = import_keras(), make_layers(options)
    # Read the variables once, because a graph cannot read variable arguments inside Keras's loops.
    params = {name: tf.convert_to_tensor(param) for name, param in params.items()}
    values = [(output.kernel, params["W_hq"]), (output.bias, params["b_q"])]
    if embedding:
        values.append((embedding.embeddings, params["W_e"]))
    for index, layer in enumerate(layers):
        cell, layer_params = layer.cell, select_layer(params, index)
        values += (cell.kernel, layer_params["W_x"]), (cell.recurrent_kernel, layer_params["W_h"])
        values.append((cell.bias, make_bias(layer_params)))
    with keras.StatelessScope(values, initialize_variables=False):  # the layers use these values
        if embedding:
            outputs, next_state = embedding(tokens), ()  # (B, T, N)
        else:
            outputs, next_state = tf.one_hot(tokens, options.vocab_size, dtype=options.dtype), ()
        for index, layer_state in enumerate(split_by_layer(state, options)):
            outputs, *layer_state = layers[index](outputs, initial_state=list(layer_state))
            if masks is not None:  # Keras's dropout would draw different masks
                outputs = outputs * tf.transpose(masks[:, index], (1, 0, 2))  # (B, T, H)
            next_state += tuple(layer_state)
        outputs = tf.reshape(tf.transpose(outputs, (1, 0, 2)), (-1, outputs.shape[2]))  # (T*B, H)
        return output(outputs), next_state


def gradients(params, batch, state, options):
    """Return the results of ``scratch.gradients`` for this module's `forward`."""
    variant_forward = partial(forward, masks=batch.masks)
    return scratch.gradients(params, batch, state, options, variant_forward)


def make_bias(params):
    """Return the bias of a layer with one bias (G*H,) or, for `gru-after`, two biases (2, 3H)."""
    if "b_hh" not in params:
        return params["b"]
    # Of the recurrent biases, the cell has only that inside the reset gate. The others are zero.
    zeros = tf.zeros_like(params["b_hh"])
    return tf.stack([params["b"], tf.concat([zeros, zeros, params["b_hh"]], 0)])


@cache
def make_layers(options):
    """Create the embedding (or None), the recurrent layers and the output layer, without values."""
    keras = import_keras()
    layer_class, arguments, _ = LAYERS[options.cell]
    V, N, H = options.vocab_size, options.embedding, options.num_hiddens
    # Initialize with zeros so that the layers draw no random numbers. Without a seed, Keras would
    # draw one from Python's generator.
    common_kwargs = {"kernel_initializer": "zeros", "dtype": options.dtype}
    with keras.StatelessScope(initialize_variables=False):  # allocates no memory for variables
        embedding = keras.layers.Embedding(V, N, "zeros", dtype=options.dtype) if N else None
        if embedding:
            embedding.build((None, None))
        layers = [
            getattr(keras.layers, layer_class)(
                H,
                recurrent_initializer="zeros",
                return_sequences=True,
                return_state=True,
                seed=0,
                **arguments,
                **common_kwargs,
            )
            for _ in range(options.num_layers)
        ]
        for index, layer in enumerate(layers):
            if options.device == "cpu":
                layer.use_cudnn = False  # otherwise, GRU and LSTM would use a GPU if available
            layer.build((None, None, H if index else N or V))
        output = keras.layers.Dense(V, **common_kwargs)
        output.build((None, H))
    return embedding, layers, output


def build(arrays, options):
    """Build the model from initial parameter values, using Keras's built-in layers."""
    check_supported(options)
    import_keras()
    _, _, gates = LAYERS[options.cell]

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options, gates)

    params, train_minibatch = init_params(arrays, options), scratch.train_minibatch
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)


def import_keras():
    """Import Keras with TensorFlow as its backend."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # overrides the user's choice
    import keras

    return keras


def check_supported(options):
    """Raise RNNScratchError if Keras has no layer for these options."""
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f'Keras has no layer for the cell {options.cell}.\nUse `variant="scratch"`.'
        )
