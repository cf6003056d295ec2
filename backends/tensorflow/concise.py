"""The same model on Keras's own layers, ``SimpleRNN`` and ``Dense``."""

from functools import partial

import keras
import tensorflow as tf

from rnn_scratch.contract import Model

from . import scratch
from .machine import on, to_arrays


def build(arrays, options):
    """The model on Keras's own layers, with parameters that start at these arrays."""
    V, (N, H) = len(arrays["b_q"]), arrays["W_xh"].shape  # N is V where inputs are one-hot
    # Zeros and a random seed, neither of which is used, so that the layers draw no random numbers.
    common = {"kernel_initializer": "zeros", "dtype": options.dtype}
    recurrent = keras.layers.SimpleRNN(
        H,
        activation=options.activation,
        recurrent_initializer="zeros",
        return_sequences=True,
        return_state=True,
        seed=0,
        **common,
    )
    output = keras.layers.Dense(V, **common)
    embedding = None
    with on(options.device):
        if "W_e" in arrays:
            embedding = keras.layers.Embedding(V, N, "zeros", dtype=options.dtype)
            embedding.build((None, None))
        recurrent.build((None, None, N))
        output.build((None, H))
    params = {
        **({"W_e": embedding.embeddings.value} if embedding else {}),
        "W_xh": recurrent.cell.kernel.value,  # (V, H): the layers keep their weights as we do
        "W_hh": recurrent.cell.recurrent_kernel.value,
        "b_h": recurrent.cell.bias.value,
        "W_hq": output.kernel.value,
        "b_q": output.bias.value,
    }
    for name, param in params.items():
        param.assign(arrays[name].astype(options.dtype))

    @tf.function
    def forward(tokens, state):
        (H,) = state
        one_hot_or_rows = embedding or (lambda tokens: tf.one_hot(tokens, V, dtype=options.dtype))
        inputs = one_hot_or_rows(tokens)  # (B, T, N)
        hiddens, H = recurrent(inputs, initial_state=H)  # (B, T, H), (B, H)
        outputs = tf.reshape(tf.transpose(hiddens, (1, 0, 2)), (-1, H.shape[1]))  # (T*B, H)
        return output(outputs), (H,)

    return Model(params, options, forward, partial(scratch.state, options=options), to_arrays)
