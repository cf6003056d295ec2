"""The same model on Keras's own layers, ``SimpleRNN``, ``GRU``, ``LSTM`` and ``Dense``."""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

from rnn_scratch.contract import Model, RNNScratchError

from . import scratch
from .machine import array, on

# The layer of each cell, and the order in which it keeps the cell's gates.
LAYERS = {
    "rnn": (keras.layers.SimpleRNN, "h"),
    "gru": (partial(keras.layers.GRU, reset_after=False), "zrh"),
    "gru-after": (partial(keras.layers.GRU, reset_after=True), "zrh"),
    "lstm": (keras.layers.LSTM, "ifco"),
}


def build(arrays, options):
    """The model on Keras's own layers, with parameters that start at these arrays."""
    refuse(options)
    layer, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    # Zeros and a random seed, neither of which is used, so that the layers draw no random numbers.
    common = {"kernel_initializer": "zeros", "dtype": options.dtype}
    recurrent = layer(
        H,
        activation=options.activation,
        recurrent_initializer="zeros",
        return_sequences=True,
        return_state=True,
        seed=0,
        **common,
    )
    if options.device == "cpu":
        recurrent.use_cudnn = False  # or GRU and LSTM would use a GPU if there is one
    output = keras.layers.Dense(V, **common)
    embedding = None
    with on(options.device):
        if "W_e" in arrays:
            embedding = keras.layers.Embedding(V, N, "zeros", dtype=options.dtype)
            embedding.build((None, None))
        recurrent.build((None, None, N))
        output.build((None, H))
        cell = recurrent.cell
        # With the reset gate after the product, the layer has a second bias, which would double the
        # first: it stays zero, untrained. The layer keeps the two in one variable, (2, gates*H). So
        # the first has a variable of its own here, and `forward` passes it on with zeros below.
        two_biases = len(cell.bias.shape) == 2
        bias = tf.Variable(cell.bias[0]) if two_biases else cell.bias.value
    # One parameter has the weights of all gates; its name lists theirs, such as "W_xz W_xr W_xh".
    params = {
        **({"W_e": embedding.embeddings.value} if embedding else {}),
        " ".join(f"W_x{gate}" for gate in gates): cell.kernel.value,  # (N, gates*H)
        " ".join(f"W_h{gate}" for gate in gates): cell.recurrent_kernel.value,  # (H, gates*H)
        " ".join(f"b_{gate}" for gate in gates): bias,  # (gates*H,)
        "W_hq": output.kernel.value,
        "b_q": output.bias.value,
    }
    for names, param in params.items():
        start = np.concatenate([arrays[name] for name in names.split()], axis=-1)
        param.assign(start.astype(options.dtype))

    @tf.function
    def forward(tokens, state):
        one_hot_or_rows = embedding or (lambda tokens: tf.one_hot(tokens, V, dtype=options.dtype))
        inputs = one_hot_or_rows(tokens)  # (B, T, N)
        biases = [(cell.bias, tf.stack([bias, tf.zeros_like(bias)]))] if two_biases else []
        with keras.StatelessScope(biases):  # in it the layer computes with these values
            hiddens, *state = recurrent(inputs, initial_state=list(state))  # (B, T, H), (B, H) each
        outputs = tf.reshape(tf.transpose(hiddens, (1, 0, 2)), (-1, hiddens.shape[2]))  # (T*B, H)
        return output(outputs), tuple(state)

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
