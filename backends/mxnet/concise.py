"""The same model on MXNet's own layers, ``gluon.rnn.RNN`` and ``gluon.nn.Dense``."""

from mxnet import gluon, npx

from rnn_scratch.contract import Model, RNNScratchError

from .machine import array, context, tensor
from .scratch import state


def concise(arrays, options):
    """The model on the framework's own layers, with parameters that start at `arrays`."""
    if (options.activation, options.dtype, options.device) == ("relu", "float64", "cpu"):
        # Measured: it rounds every hidden state to a float32. It does so for relu only.
        raise RNNScratchError(
            "MXNet's recurrent layer, gluon.rnn.RNN, computes relu in float32 on the CPU, and "
            "float64 was asked for.\nUse --dtype float32, --activation tanh or --model scratch."
        )
    V, (N, H) = len(arrays["b_q"]), arrays["W_xh"].shape  # N is V where inputs are one-hot
    recurrent = gluon.rnn.RNN(H, activation=options.activation, input_size=N, dtype=options.dtype)
    output = gluon.nn.Dense(V, in_units=H, dtype=options.dtype)
    embedding = gluon.nn.Embedding(V, N, dtype=options.dtype) if "W_e" in arrays else None
    layers = {
        **({"W_e": embedding.weight} if embedding else {}),
        "W_xh": recurrent.l0_i2h_weight,  # (H, V): the layers keep their weights transposed
        "W_hh": recurrent.l0_h2h_weight,
        "b_h": recurrent.l0_i2h_bias,
        "W_hq": output.weight,
        "b_q": output.bias,
    }
    # The layer has a second bias, which would double the first: it stays zero, untrained.
    recurrent.l0_h2h_bias.grad_req = "null"
    for block in filter(None, (embedding, recurrent, output)):
        block.initialize("zeros", ctx=context(options.device))
    for name, layer in layers.items():
        layer.set_data(tensor(_turned(name, arrays[name]).astype(options.dtype), options.device))
    params = {name: layer.data() for name, layer in layers.items()}

    def forward(tokens, state, params, options):
        (H,) = state
        one_hot_or_rows = embedding or (lambda tokens: npx.one_hot(tokens, V, dtype=options.dtype))
        inputs = one_hot_or_rows(tokens.T)  # (T, B, N)
        outputs, (H,) = recurrent(inputs, [H[None]])  # (T, B, H), (1, B, H)
        return output(outputs.reshape(-1, outputs.shape[2])), (H[0],)

    return Model(params, H, state, forward, _to_arrays, options)


def _to_arrays(params):
    return {name: _turned(name, array(param)).copy() for name, param in params.items()}


def _turned(name, array):
    return array if name == "W_e" else array.T
