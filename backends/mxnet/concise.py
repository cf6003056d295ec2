"""The same model on MXNet's own layers, ``gluon.rnn.RNN`` and ``gluon.nn.Dense``."""

from functools import partial

from mxnet import gluon, npx

from rnn_scratch.contract import Model, RNNScratchError

from . import scratch
from .machine import array, context, tensor


def build(arrays, options):
    """The model on MXNet's own layers, with parameters that start at these arrays."""
    if (options.activation, options.dtype, options.device) == ("relu", "float64", "cpu"):
        # Measured: the layer rounds every hidden state to a float32, and with relu only.
        raise RNNScratchError(
            "MXNet's recurrent layer, gluon.rnn.RNN, computes relu on the CPU in float32, even "
            "with --dtype float64.\nUse --dtype float32, --activation tanh or --model scratch."
        )
    V, (N, H) = len(arrays["b_q"]), arrays["W_xh"].shape  # N is V where inputs are one-hot
    embedding = gluon.nn.Embedding(V, N, dtype=options.dtype) if "W_e" in arrays else None
    recurrent = gluon.rnn.RNN(H, activation=options.activation, input_size=N, dtype=options.dtype)
    output = gluon.nn.Dense(V, in_units=H, dtype=options.dtype)
    weights = {
        **({"W_e": embedding.weight} if embedding else {}),
        "W_xh": recurrent.l0_i2h_weight,  # (H, V): the layers keep their weights transposed
        "W_hh": recurrent.l0_h2h_weight,
        "b_h": recurrent.l0_i2h_bias,
        "W_hq": output.weight,
        "b_q": output.bias,
    }
    # The layer has a second bias, which would double the first: it stays zero, untrained.
    recurrent.l0_h2h_bias.grad_req = "null"
    for layer in filter(None, (embedding, recurrent, output)):
        layer.initialize("zeros", ctx=context(options.device))
    for name, weight in weights.items():
        start = _transposed(name, arrays[name]).astype(options.dtype)
        weight.set_data(tensor(start, options.device))
    params = {name: weight.data() for name, weight in weights.items()}

    def forward(tokens, state):
        (H,) = state
        one_hot_or_rows = embedding or (lambda tokens: npx.one_hot(tokens, V, dtype=options.dtype))
        inputs = one_hot_or_rows(tokens.T)  # (T, B, N)
        outputs, (H,) = recurrent(inputs, [H[None]])  # (T, B, H), (1, B, H)
        return output(outputs.reshape(-1, outputs.shape[2])), (H[0],)

    return Model(params, options, forward, partial(scratch.state, options=options), _to_arrays)


def _to_arrays(params):
    return {name: _transposed(name, array(param)).copy() for name, param in params.items()}


def _transposed(name, array):
    return array if name == "W_e" else array.T
