"""The model built from the MXNet layers ``gluon.rnn.RNN``, ``GRU``, ``LSTM`` and ``nn.Dense``."""

from functools import partial

import numpy
from mxnet import gluon, np, npx

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import add_layer_suffix, join_gates, split_by_layer, split_gates

from . import machine, scratch
from .machine import context

# For each cell: the layer and its gate order.
LAYERS = {
    "rnn": (partial(gluon.rnn.RNN, activation="tanh"), "h"),
    "gru-after": (gluon.rnn.GRU, "rzh"),
    "lstm": (gluon.rnn.LSTM, "ifco"),
    "rnn-relu": (partial(gluon.rnn.RNN, activation="relu"), "h"),
}


def init_params(arrays, options):
    """Create the parameters of ``scratch`` in the layers' layout."""
    _, gates = LAYERS[options.cell]
    arrays = transpose_weights(join_gates(arrays, options, gates))
    for name in list_recurrent_biases(arrays):  # one bias (3*H,) for all gates
        arrays[name] = numpy.concatenate([numpy.zeros(2 * len(arrays[name])), arrays[name]])
    return scratch.init_params(arrays, options)


def list_recurrent_biases(params):
    """Return the names of the biases inside the reset gates."""
    return [name for name in params if name.startswith("b_hh")]


def transpose_weights(arrays):
    """Transpose the weights, except the embedding, which already has the layer's layout."""
    return {name: array if name == "W_e" else array.T for name, array in arrays.items()}


def build(arrays, options):
    """Build the model from initial parameter values, using MXNet's built-in layers."""
    check_supported(options)
    layer, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    embedding = gluon.nn.Embedding(V, N, dtype=options.dtype) if "W_e" in arrays else None
    # An MXNet block can stack layers, but its dropout would draw different masks. With dropout, use
    # single-layer blocks and multiply their outputs by `masks`. Also use single-layer blocks for
    # float64, where the gradients of a stack's lower layers are wrong (measured).
    is_stacked = not options.dropout and options.dtype == "float32"
    height = options.num_layers if is_stacked else 1  # number of layers per block
    sizes = [N, *[H] * (options.num_layers // height - 1)]
    stacks = [layer(H, height, input_size=size, dtype=options.dtype) for size in sizes]
    output = gluon.nn.Dense(V, in_units=H, dtype=options.dtype)
    weights = {"W_e": embedding.weight} if embedding else {}
    for layer_index in range(options.num_layers):
        stack, index_in_stack = stacks[layer_index // height], layer_index % height
        # One parameter (G*H, ...) holds the weights of all G gates.
        for name, kind in (("W_x", "i2h_weight"), ("W_h", "h2h_weight"), ("b", "i2h_bias")):
            weight = getattr(stack, f"l{index_in_stack}_{kind}")
            weights |= add_layer_suffix({name: weight}, layer_index)
        # The layer has a second bias. Train only the elements that the cell has: those inside the
        # reset gate, which are the last third. The others stay at zero.
        second_bias = getattr(stack, f"l{index_in_stack}_h2h_bias")
        if options.cell == "gru-after":
            weights |= add_layer_suffix({"b_hh": second_bias}, layer_index)
        else:
            second_bias.grad_req = "null"
    weights |= {"W_hq": output.weight, "b_q": output.bias}
    for block in filter(None, (embedding, *stacks, output)):
        block.initialize("zeros", ctx=context(options.device))
    for name, values in init_params(arrays, options).items():
        weights[name].set_data(values)
    tensors = {name: weight.data() for name, weight in weights.items()}
    is_trained = np.arange(3 * H, dtype=options.dtype, ctx=context(options.device)) >= 2 * H

    def forward(tokens, state, _params, options, masks=None):  # the layers have the parameters
        embed = embedding or (lambda tokens: npx.one_hot(tokens, V, dtype=options.dtype))
        outputs, next_state = embed(tokens.T), ()  # (T, B, N)
        states = split_by_layer(state, options)
        for index, stack in enumerate(stacks):
            # States of this block's layers: h (height, B, H) and, for an LSTM, c.
            stack_state = zip(*states[index * height : (index + 1) * height])
            outputs, next_states = stack(outputs, [np.stack(tensors) for tensors in stack_state])
            if masks is not None:
                outputs = outputs * masks[:, index]  # (T, B, H)
            next_state += tuple(values[layer] for layer in range(height) for values in next_states)
        return output(outputs.reshape(-1, outputs.shape[2])), next_state

    def gradients(params, batch, state, options):
        variant_forward = partial(forward, masks=batch.masks)
        mean_loss, grads, state = scratch.gradients(params, batch, state, options, variant_forward)
        grads |= {name: grads[name] * is_trained for name in list_recurrent_biases(grads)}
        return mean_loss, grads, state

    def to_arrays(params):
        arrays = transpose_weights(machine.to_arrays(params))
        arrays |= {name: arrays[name][2 * H :] for name in list_recurrent_biases(arrays)}
        return split_gates(arrays, options, gates)

    return Model(tensors, options, forward, gradients, to_arrays, scratch.train_minibatch)


def check_supported(options):
    """Raise RNNScratchError if MXNet has no layer for these options."""
    if options.cell == "gru":
        raise RNNScratchError(
            "gluon.rnn.GRU applies the reset gate after the product, but the cell gru applies it "
            'before the product.\nUse `cell="gru-after"` or `variant="scratch"`.'
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f'MXNet has no layer for the cell {options.cell}.\nUse `variant="scratch"`.'
        )
    is_on_cpu = context(options.device).device_type == "cpu"
    if is_on_cpu and (options.cell, options.dtype) == ("rnn-relu", "float64"):
        # With relu (but not with tanh), the layer rounds all hidden states to float32 (measured).
        raise RNNScratchError(
            "MXNet's recurrent layer, gluon.rnn.RNN, computes relu on the CPU in float32, even "
            'with `dtype="float64"`.\nUse `dtype="float32"` or `variant="scratch"`.'
        )
