"""The model built from the PyTorch layers ``torch.nn.RNN``, ``GRU``, ``LSTM`` and ``Linear``."""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import add_layer_suffix, join_gates, split_by_layer, split_gates

from . import machine, scratch

# For each cell: the layer and its gate order.
LAYERS = {
    "rnn": (nn.RNN, "h"),
    "gru-after": (nn.GRU, "rzh"),
    "lstm": (nn.LSTM, "ifco"),
    "rnn-relu": (partial(nn.RNN, nonlinearity="relu"), "h"),
}


def init_params(arrays, options):
    """Create the parameters of ``scratch`` in the layers' layout."""
    _, gates = LAYERS[options.cell]
    arrays = transpose_weights(join_gates(arrays, options, gates))
    for name in list_recurrent_biases(arrays):  # one bias (3*H,) for all gates
        arrays[name] = np.concatenate([np.zeros(2 * len(arrays[name])), arrays[name]])
    return scratch.init_params(arrays, options)


def list_recurrent_biases(params):
    """Return the names of the biases inside the reset gates."""
    return [name for name in params if name.startswith("b_hh")]


def transpose_weights(arrays):
    """Transpose the weights, except the embedding, which already has the layer's layout."""
    return {name: array if name == "W_e" else array.T for name, array in arrays.items()}


def build(arrays, options):
    """Build the model from initial parameter values, using PyTorch's built-in layers."""
    check_supported(options)
    layer, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    factory_kwargs = {"dtype": getattr(torch, options.dtype), "device": options.device}
    embedding = nn.Embedding(V, N, **factory_kwargs) if "W_e" in arrays else None
    # A PyTorch module can stack layers, but its dropout would draw different masks. With dropout,
    # use single-layer modules and multiply their outputs by `masks`.
    height = 1 if options.dropout else options.num_layers  # number of layers per module
    sizes = [N, *[H] * (options.num_layers // height - 1)]
    stacks = [layer(size, H, height, **factory_kwargs) for size in sizes]
    output = nn.Linear(H, V, **factory_kwargs)
    tensors = {"W_e": embedding.weight} if embedding else {}
    for layer_index in range(options.num_layers):
        stack, index_in_stack = stacks[layer_index // height], layer_index % height
        # One parameter (G*H, ...) holds the weights of all G gates.
        for name, kind in (("W_x", "weight_ih"), ("W_h", "weight_hh"), ("b", "bias_ih")):
            param = getattr(stack, f"{kind}_l{index_in_stack}")
            tensors |= add_layer_suffix({name: param}, layer_index)
        # The layer has a second bias. Train only the elements that the cell has: those inside the
        # reset gate, which are the last third. The others stay at zero.
        second_bias = nn.init.zeros_(getattr(stack, f"bias_hh_l{index_in_stack}"))
        if options.cell == "gru-after":
            is_trained = torch.arange(3 * H, device=options.device) >= 2 * H
            second_bias.register_hook(is_trained.mul)
            tensors |= add_layer_suffix({"b_hh": second_bias}, layer_index)
        else:
            second_bias.requires_grad_(False)
    tensors |= {"W_hq": output.weight, "b_q": output.bias}
    with torch.no_grad():
        for name, values in init_params(arrays, options).items():
            tensors[name].copy_(values)

    def forward(tokens, state, _params, options, masks=None):  # the layers have the parameters
        embed = embedding or (lambda tokens: F.one_hot(tokens, V).to(factory_kwargs["dtype"]))
        outputs, next_state = embed(tokens.T), ()  # (T, B, N)
        states = split_by_layer(state, options)
        for index, stack in enumerate(stacks):
            # States of this module's layers: h (height, B, H) and, for an LSTM, c.
            layer_states = zip(*states[index * height : (index + 1) * height])
            stack_state = tuple(torch.stack(tensors) for tensors in layer_states)
            is_pair = len(stack_state) > 1
            outputs, next_states = stack(outputs, stack_state if is_pair else stack_state[0])
            if masks is not None:
                outputs = outputs * masks[:, index]  # (T, B, H)
            for layer_state in zip(*(next_states if is_pair else (next_states,))):
                next_state += layer_state
        return output(outputs.flatten(0, 1)), next_state

    def gradients(params, batch, state, options):
        variant_forward = partial(forward, masks=batch.masks)
        return scratch.gradients(params, batch, state, options, variant_forward)

    def to_arrays(params):
        arrays = transpose_weights(machine.to_arrays(params))
        arrays |= {name: arrays[name][2 * H :] for name in list_recurrent_biases(arrays)}
        return split_gates(arrays, options, gates)

    return Model(tensors, options, forward, gradients, to_arrays, scratch.train_minibatch)


def check_supported(options):
    """Raise RNNScratchError if PyTorch has no layer for these options."""
    if options.cell == "gru":
        raise RNNScratchError(
            "torch.nn.GRU applies the reset gate after the product, but the cell gru applies it "
            'before the product.\nUse `cell="gru-after"` or `variant="scratch"`.'
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f'PyTorch has no layer for the cell {options.cell}.\nUse `variant="scratch"`.'
        )
