"""The same model on MXNet's own layers, ``gluon.rnn.RNN``, ``GRU``, ``LSTM`` and ``nn.Dense``."""

from functools import partial

import numpy
from mxnet import gluon, np, npx

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import by_layer, to_layer, tokens_and_masks

from . import scratch
from .machine import array, context, tensor

# The layer of each cell, and the order in which it keeps the cell's gates.
LAYERS = {
    "rnn": (partial(gluon.rnn.RNN, activation="tanh"), "h"),
    "gru-after": (gluon.rnn.GRU, "rzh"),
    "lstm": (gluon.rnn.LSTM, "ifco"),
    "rnn-relu": (partial(gluon.rnn.RNN, activation="relu"), "h"),
}


def build(arrays, options):
    """The model on MXNet's own layers, with parameters that start at these arrays."""
    refuse(options)
    layer, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    embedding = gluon.nn.Embedding(V, N, dtype=options.dtype) if "W_e" in arrays else None
    # MXNet's own stack of layers; but its dropout draws masks itself, and so with dropout there are
    # single layers, and between them what they pass upwards is multiplied by the core's masks. In
    # float64 as well: there the gradients of a stack's lower layers are wrong (measured).
    stacked = not options.dropout and options.dtype == "float32"
    height = options.num_layers if stacked else 1  # of each stack
    sizes = [N, *[H] * (options.num_layers // height - 1)]
    stacks = [layer(H, height, input_size=size, dtype=options.dtype) for size in sizes]
    output = gluon.nn.Dense(V, in_units=H, dtype=options.dtype)
    weights = {"W_e": embedding.weight} if embedding else {}
    for number in range(options.num_layers):
        stack, own = stacks[number // height], number % height
        # One parameter has the weights of all gates; its name lists theirs: "W_xr W_xz W_xh".
        for prefix, kind in (("W_x", "i2h_weight"), ("W_h", "h2h_weight"), ("b_", "i2h_bias")):
            names = to_layer({prefix + gate: None for gate in gates}, number)
            weights[" ".join(names)] = getattr(stack, f"l{own}_{kind}")  # (gates*H, ...)
        # The layer has a second bias, which would double the first: it stays zero, untrained.
        getattr(stack, f"l{own}_h2h_bias").grad_req = "null"
    weights |= {"W_hq": output.weight, "b_q": output.bias}
    for each in filter(None, (embedding, *stacks, output)):
        each.initialize("zeros", ctx=context(options.device))
    for names, weight in weights.items():
        start = numpy.concatenate([arrays[name] for name in names.split()], axis=-1)
        weight.set_data(tensor(_transposed(names, start).astype(options.dtype), options.device))
    params = {names: weight.data() for names, weight in weights.items()}

    def forward(inputs, state):
        tokens, masks = tokens_and_masks(inputs)
        one_hot_or_rows = embedding or (lambda tokens: npx.one_hot(tokens, V, dtype=options.dtype))
        outputs, after = one_hot_or_rows(tokens.T), ()  # (T, B, N)
        states = by_layer(state, options)
        for number, stack in enumerate(stacks):
            # h of all layers of the stack, (height, B, H), and for an LSTM c.
            before = [np.stack(s) for s in zip(*states[number * height : (number + 1) * height])]
            outputs, last = stack(outputs, before)
            if masks is not None:
                outputs = outputs * masks[:, number]  # (T, B, H)
            after += tuple(each[own] for own in range(height) for each in last)
        return output(outputs.reshape(-1, outputs.shape[2])), after

    to_arrays = partial(_to_arrays, order=list(arrays))
    return Model(params, options, forward, partial(scratch.state, options=options), to_arrays)


def refuse(options):
    """Raise RNNScratchError where MXNet has no layer for these options, and say why."""
    if options.cell == "gru":
        raise RNNScratchError(
            "gluon.rnn.GRU applies the reset gate after the product, but the cell gru applies it "
            "before the product.\nUse --cell gru-after or --model scratch."
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f"MXNet has no layer for the cell {options.cell}.\nUse --model scratch."
        )
    on_cpu = context(options.device).device_type == "cpu"
    if on_cpu and (options.cell, options.dtype) == ("rnn-relu", "float64"):
        # Measured: the layer rounds every hidden state to a float32, and with relu only.
        raise RNNScratchError(
            "MXNet's recurrent layer, gluon.rnn.RNN, computes relu on the CPU in float32, even "
            "with --dtype float64.\nUse --dtype float32 or --model scratch."
        )


def _to_arrays(params, order):
    arrays = {}
    for names, param in params.items():
        gates = _transposed(names, array(param)), len(names.split())
        arrays.update(zip(names.split(), numpy.split(*gates, axis=-1)))
    return {name: arrays[name].copy() for name in order}


def _transposed(names, array):
    return array if names == "W_e" else array.T  # the layers keep their weights transposed
