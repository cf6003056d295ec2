"""The same model on Keras's own layers, ``SimpleRNN``, ``GRU``, ``LSTM`` and ``Dense``."""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import by_layer, to_layer, tokens_and_masks

from . import scratch
from .machine import array, on

# The layer of each cell, and the order in which it keeps the cell's gates.
LAYERS = {
    "rnn": (keras.layers.SimpleRNN, "h"),
    "gru": (partial(keras.layers.GRU, reset_after=False), "zrh"),
    "gru-after": (partial(keras.layers.GRU, reset_after=True), "zrh"),
    "lstm": (keras.layers.LSTM, "ifco"),
    "rnn-relu": (partial(keras.layers.SimpleRNN, activation="relu"), "h"),
}


def build(arrays, options):
    """The model on Keras's own layers, with parameters that start at these arrays."""
    refuse(options)
    layer, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    # Zeros and a random seed, neither of which is used, so that the layers draw no random numbers.
    common = {"kernel_initializer": "zeros", "dtype": options.dtype}
    layers = [
        layer(
            H,
            recurrent_initializer="zeros",
            return_sequences=True,
            return_state=True,
            seed=0,
            **common,
        )
        for _ in range(options.num_layers)
    ]
    output = keras.layers.Dense(V, **common)
    embedding, biases, params = None, [], {}
    with on(options.device):
        if "W_e" in arrays:
            embedding = keras.layers.Embedding(V, N, "zeros", dtype=options.dtype)
            embedding.build((None, None))
            params["W_e"] = embedding.embeddings.value
        for number, each in enumerate(layers):
            if options.device == "cpu":
                each.use_cudnn = False  # or GRU and LSTM would use a GPU if there is one
            each.build((None, None, H if number else N))
            cell = each.cell
            # With the reset gate after the product, the layer has a second bias, which would double
            # the first: it stays zero, untrained. The layer keeps both in one variable,
            # (2, gates*H). So the first has a variable of its own here, and `forward` passes it on
            # with zeros below.
            bias = cell.bias.value
            if len(bias.shape) == 2:
                bias = tf.Variable(bias[0])
                biases.append((cell.bias, bias))
            # One parameter has the weights of all gates; its name lists theirs: "W_xz W_xr W_xh".
            own = {"W_x": cell.kernel.value, "W_h": cell.recurrent_kernel.value, "b_": bias}
            for prefix, param in own.items():  # (..., gates*H)
                params[" ".join(to_layer({prefix + gate: None for gate in gates}, number))] = param
        output.build((None, H))
    params |= {"W_hq": output.kernel.value, "b_q": output.bias.value}
    for names, param in params.items():
        start = np.concatenate([arrays[name] for name in names.split()], axis=-1)
        param.assign(start.astype(options.dtype))

    @on(options.device)
    @tf.function
    def forward(inputs, state):
        tokens, masks = tokens_and_masks(inputs)
        one_hot_or_rows = embedding or (lambda tokens: tf.one_hot(tokens, V, dtype=options.dtype))
        outputs, after = one_hot_or_rows(tokens), ()  # (B, T, N)
        values = [(both, tf.stack([b, tf.zeros_like(b)])) for both, b in biases]
        with keras.StatelessScope(values):  # in it the layers compute with these values
            for number, before in enumerate(by_layer(state, options)):
                outputs, *last = layers[number](outputs, initial_state=list(before))  # (B, T, H)
                if masks is not None:  # the core's, as Keras's dropout draws its own
                    outputs = outputs * tf.transpose(masks[:, number], (1, 0, 2))
                after += tuple(last)
        outputs = tf.reshape(tf.transpose(outputs, (1, 0, 2)), (-1, outputs.shape[2]))  # (T*B, H)
        return output(outputs), after

    to_arrays = partial(_to_arrays, order=list(arrays))
    return Model(params, options, forward, partial(scratch.state, options=options), to_arrays)


def refuse(options):
    """Raise RNNScratchError where Keras has no layer for these options, and say why."""
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f"Keras has no layer for the cell {options.cell}.\nUse --model scratch."
        )


def _to_arrays(params, order):
    arrays = {}
    for names, param in params.items():
        arrays.update(zip(names.split(), np.split(array(param), len(names.split()), axis=-1)))
    return {name: arrays[name].copy() for name in order}
