"""The model built from the Keras layers ``SimpleRNN``, ``GRU``, ``LSTM`` and ``Dense``.

`build` sets KERAS_BACKEND before it imports Keras, which reads this variable only once.
"""

import os
from functools import partial

import tensorflow as tf

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import add_layer_suffix, join_gates, split_by_layer, split_gates

from . import machine, scratch
from .machine import device_scope

# For each cell: the layer, its arguments and its gate order.
LAYERS = {
    "rnn": ("SimpleRNN", {}, "h"),
    "gru": ("GRU", {"reset_after": False}, "zrh"),
    "gru-after": ("GRU", {"reset_after": True}, "zrh"),
    "lstm": ("LSTM", {}, "ifco"),
    "rnn-relu": ("SimpleRNN", {"activation": "relu"}, "h"),
}


def params(arrays, options):
    """Create the parameters of ``scratch`` in the layers' layout."""
    _, _, gates = LAYERS[options.cell]
    return scratch.params(join_gates(arrays, options, gates), options)


def build(arrays, options):
    """Build the model from initial parameter values, using Keras's built-in layers."""
    check_supported(options)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # overrides the user's choice
    import keras

    layer_class, arguments, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    # Initialize with zeros so that the layers draw no random numbers. Without a seed, Keras would
    # draw one from Python's generator.
    common_kwargs = {"kernel_initializer": "zeros", "dtype": options.dtype}
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
    output = keras.layers.Dense(V, **common_kwargs)
    embedding, biases, tensors = None, [], {}
    with device_scope(options.device):
        if "W_e" in arrays:
            embedding = keras.layers.Embedding(V, N, "zeros", dtype=options.dtype)
            embedding.build((None, None))
            tensors["W_e"] = embedding.embeddings.value
        for index, layer in enumerate(layers):
            if options.device == "cpu":
                layer.use_cudnn = False  # otherwise, GRU and LSTM would use a GPU if available
            layer.build((None, None, H if index else N))
            cell = layer.cell
            # With the reset gate after the product, the layer has a second bias that our cells
            # lack: keep it at zero and don't train it. One variable (2, gates*H) holds both biases,
            # so create a separate variable for the first bias; `forward` stacks it with zeros.
            bias = cell.bias.value
            if len(bias.shape) == 2:
                bias = tf.Variable(bias[0])
                biases.append((cell.bias, bias))
            # One parameter (..., G*H) holds the weights of all G gates.
            weights = {"W_x": cell.kernel.value, "W_h": cell.recurrent_kernel.value}
            tensors |= add_layer_suffix({**weights, "b": bias}, index)
        output.build((None, H))
    tensors |= {"W_hq": output.kernel.value, "b_q": output.bias.value}
    for name, values in params(arrays, options).items():
        tensors[name].assign(values)

    @device_scope(options.device)
    @tf.function
    def forward(tokens, state, masks=None):
        embed = embedding or (lambda tokens: tf.one_hot(tokens, V, dtype=options.dtype))
        outputs, next_state = embed(tokens), ()  # (B, T, N)
        values = [(variable, tf.stack([b, tf.zeros_like(b)])) for variable, b in biases]
        with keras.StatelessScope(values):  # the layers use these values as biases
            for index, layer_state in enumerate(split_by_layer(state, options)):
                outputs, *layer_state = layers[index](outputs, initial_state=list(layer_state))
                if masks is not None:  # Keras's dropout would draw different masks
                    outputs = outputs * tf.transpose(masks[:, index], (1, 0, 2))  # (B, T, H)
                next_state += tuple(layer_state)
        outputs = tf.reshape(tf.transpose(outputs, (1, 0, 2)), (-1, outputs.shape[2]))  # (T*B, H)
        return output(outputs), next_state

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options, gates)

    state = partial(scratch.state, options=options)
    return Model(tensors, options, forward, state, to_arrays, scratch.train_minibatch)


def check_supported(options):
    """Raise RNNScratchError if Keras has no layer for these options."""
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f'Keras has no layer for the cell {options.cell}.\nUse `model="scratch"`.'
        )
