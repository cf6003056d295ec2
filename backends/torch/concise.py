"""The same model on PyTorch's own layers, ``torch.nn.RNN``, ``GRU``, ``LSTM`` and ``Linear``."""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import by_layer, to_layer, tokens_and_masks

from . import scratch
from .machine import array

# The layer of each cell, and the order in which it keeps the cell's gates.
LAYERS = {
    "rnn": (nn.RNN, "h"),
    "gru-after": (nn.GRU, "rzh"),
    "lstm": (nn.LSTM, "ifco"),
    "rnn-relu": (partial(nn.RNN, nonlinearity="relu"), "h"),
}


def build(arrays, options):
    """The model on PyTorch's own layers, with parameters that start at these arrays."""
    refuse(options)
    layer, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    where = {"dtype": getattr(torch, options.dtype), "device": options.device}
    embedding = nn.Embedding(V, N, **where) if "W_e" in arrays else None
    # PyTorch's own stack of layers; but its dropout draws masks itself, and so with dropout there
    # are single layers, and between them what they pass upwards is multiplied by the core's masks.
    height = 1 if options.dropout else options.num_layers  # of each stack
    sizes = [N, *[H] * (options.num_layers // height - 1)]
    stacks = [layer(size, H, height, **where) for size in sizes]
    output = nn.Linear(H, V, **where)
    params = {"W_e": embedding.weight} if embedding else {}
    for number in range(options.num_layers):
        stack, own = stacks[number // height], number % height
        # One parameter has the weights of all gates; its name lists theirs: "W_xr W_xz W_xh".
        for prefix, kind in (("W_x", "weight_ih"), ("W_h", "weight_hh"), ("b_", "bias_ih")):
            names = to_layer({prefix + gate: None for gate in gates}, number)
            params[" ".join(names)] = getattr(stack, f"{kind}_l{own}")  # (gates*H, ...)
        # The layer has a second bias, which would double the first: it stays zero, untrained.
        nn.init.zeros_(getattr(stack, f"bias_hh_l{own}")).requires_grad_(False)
    params |= {"W_hq": output.weight, "b_q": output.bias}
    with torch.no_grad():
        for names, param in params.items():
            start = np.concatenate([arrays[name] for name in names.split()], axis=-1)
            param.copy_(torch.tensor(_transposed(names, start)))

    def forward(inputs, state):
        tokens, masks = tokens_and_masks(inputs)
        one_hot_or_rows = embedding or (lambda tokens: F.one_hot(tokens, V).to(where["dtype"]))
        outputs, after = one_hot_or_rows(tokens.T), ()  # (T, B, N)
        states = by_layer(state, options)
        for number, stack in enumerate(stacks):
            # h of all layers of the stack, (height, B, H); for an LSTM a tuple with c.
            before = [torch.stack(s) for s in zip(*states[number * height : (number + 1) * height])]
            outputs, last = stack(outputs, tuple(before) if len(before) > 1 else before[0])
            if masks is not None:
                outputs = outputs * masks[:, number]  # (T, B, H)
            after += tuple(s for each in zip(*(last if len(before) > 1 else (last,))) for s in each)
        return output(outputs.flatten(0, 1)), after

    to_arrays = partial(_to_arrays, order=list(arrays))
    return Model(params, options, forward, partial(scratch.state, options=options), to_arrays)


def refuse(options):
    """Raise RNNScratchError where PyTorch has no layer for these options, and say why."""
    if options.cell == "gru":
        raise RNNScratchError(
            "torch.nn.GRU applies the reset gate after the product, but the cell gru applies it "
            "before the product.\nUse --cell gru-after or --model scratch."
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f"PyTorch has no layer for the cell {options.cell}.\nUse --model scratch."
        )


def _to_arrays(params, order):
    arrays = {}
    for names, param in params.items():
        gates = _transposed(names, array(param)), len(names.split())
        arrays.update(zip(names.split(), np.split(*gates, axis=-1)))
    return {name: arrays[name].copy() for name in order}


def _transposed(names, array):
    return array if names == "W_e" else array.T  # the layers keep their weights transposed
