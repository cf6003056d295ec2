"""The model, built from Keras's layers ``SimpleRNN``, ``GRU``, ``LSTM`` and ``Dense``.

`build` sets KERAS_BACKEND before it imports Keras, which reads this variable only once.
"""

import os
from functools import partial

import numpy as np
import tensorflow as tf

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import add_layer_suffix, split_by_layer

from . import scratch
from .machine import array, device_scope

# For each cell: the layer class, the layer's arguments, and the order of the layer's gates.
LAYERS = {
    "rnn": ("SimpleRNN", {}, "h"),
    "gru": ("GRU", {"reset_after": False}, "zrh"),
    "gru-after": ("GRU", {"reset_after": True}, "zrh"),
    "lstm": ("LSTM", {}, "ifco"),
    "rnn-relu": ("SimpleRNN", {"activation": "relu"}, "h"),
}


def build(arrays, options):
    """Build the model from Keras's built-in layers and initial parameter values."""
    check_supported(options)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # overrides the user's choice
    import keras

    layer_class, arguments, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    # Initialize with zeros, so that the layers draw no random numbers. Without a seed, Keras would
    # draw one from Python's generator.
    common = {"kernel_initializer": "zeros", "dtype": options.dtype}
    layers = [
        getattr(keras.layers, layer_class)(
            H,
            recurrent_initializer="zeros",
            return_sequences=True,
            return_state=True,
            seed=0,
            **arguments,
            **common,
        )
        for _ in range(options.num_layers)
    ]
    output = keras.layers.Dense(V, **common)
    embedding, biases, params = None, [], {}
    with device_scope(options.device):
        if "W_e" in arrays:
            embedding = keras.layers.Embedding(V, N, "zeros", dtype=options.dtype)
            embedding.build((None, None))
            params["W_e"] = embedding.embeddings.value
        for index, layer in enumerate(layers):
            if options.device == "cpu":
                layer.use_cudnn = False  # otherwise, GRU and LSTM would use a GPU if available
            layer.build((None, None, H if index else N))
            cell = layer.cell
            # With the reset gate after the product, the layer has a second bias, which our cells
            # lack: keep it zero and don't train it. Both biases are one variable (2, gates*H), so
            # create a separate variable for the first bias; `forward` stacks it with zeros.
            bias = cell.bias.value
            if len(bias.shape) == 2:
                bias = tf.Variable(bias[0])
                biases.append((cell.bias, bias))
            # One parameter holds the weights of all gates, under a key such as "W_xz W_xr W_xh".
            variables = {"W_x": cell.kernel, "W_h": cell.recurrent_kernel}
            tensors = {prefix: variable.value for prefix, variable in variables.items()}
            for prefix, param in {**tensors, "b_": bias}.items():  # (..., gates*H)
                names = add_layer_suffix({prefix + gate: None for gate in gates}, index)
                params[" ".join(names)] = param
        output.build((None, H))
    params |= {"W_hq": output.kernel.value, "b_q": output.bias.value}
    for names, param in params.items():
        values = np.concatenate([arrays[name] for name in names.split()], axis=-1)
        param.assign(values.astype(options.dtype))

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

    state = partial(scratch.state, options=options)
    to_arrays = partial(_to_arrays, order=list(arrays))
    return Model(params, options, forward, state, to_arrays, scratch.train_minibatch)


def check_supported(options):
    """Raise RNNScratchError if Keras has no layer for these options."""
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f"Keras has no layer for the cell {options.cell}.\nUse --model scratch."
        )


def _to_arrays(params, order):
    arrays = {}
    for names, param in params.items():
        arrays.update(zip(names.split(), np.split(array(param), len(names.split()), axis=-1)))
    return {name: arrays[name].copy() for name in order}
