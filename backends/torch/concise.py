"""The same model on PyTorch's own layers, ``torch.nn.RNN``, ``GRU``, ``LSTM`` and ``Linear``."""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rnn_scratch.contract import Model, RNNScratchError

from . import scratch
from .machine import array

# The layer of each cell, and the order in which it keeps the cell's gates.
LAYERS = {"rnn": (nn.RNN, "h"), "gru-after": (nn.GRU, "rzh"), "lstm": (nn.LSTM, "ifco")}


def build(arrays, options):
    """The model on PyTorch's own layers, with parameters that start at these arrays."""
    refuse(options)
    layer, gates = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    where = {"dtype": getattr(torch, options.dtype), "device": options.device}
    embedding = nn.Embedding(V, N, **where) if "W_e" in arrays else None
    choice = {"nonlinearity": options.activation} if layer is nn.RNN else {}
    recurrent = layer(N, H, **choice, **where)
    output = nn.Linear(H, V, **where)
    # One parameter has the weights of all gates; its name lists theirs, such as "W_xr W_xz W_xh".
    params = {
        **({"W_e": embedding.weight} if embedding else {}),
        " ".join(f"W_x{gate}" for gate in gates): recurrent.weight_ih_l0,  # (gates*H, N)
        " ".join(f"W_h{gate}" for gate in gates): recurrent.weight_hh_l0,  # (gates*H, H)
        " ".join(f"b_{gate}" for gate in gates): recurrent.bias_ih_l0,  # (gates*H,)
        "W_hq": output.weight,
        "b_q": output.bias,
    }
    with torch.no_grad():
        for names, param in params.items():
            start = np.concatenate([arrays[name] for name in names.split()], axis=-1)
            param.copy_(torch.tensor(_transposed(names, start)))
        # The layer has a second bias, which would double the first: it stays zero, untrained.
        recurrent.bias_hh_l0.zero_().requires_grad_(False)

    def forward(tokens, state):
        one_hot_or_rows = embedding or (lambda tokens: F.one_hot(tokens, V).to(where["dtype"]))
        inputs = one_hot_or_rows(tokens.T)  # (T, B, N)
        before = tuple(s[None] for s in state)  # (1, B, H) each; a single one without its tuple
        outputs, after = recurrent(inputs, before if len(before) > 1 else before[0])  # (T, B, H)
        state = tuple(s[0] for s in (after if len(before) > 1 else (after,)))
        return output(outputs.flatten(0, 1)), state

    to_arrays = partial(_to_arrays, order=list(arrays))
    return Model(params, options, forward, partial(scratch.state, options=options), to_arrays)


def refuse(options):
    """Raise RNNScratchError where PyTorch has no layer for these options, and say why."""
    if options.cell == "gru":
        raise RNNScratchError(
            "PyTorch's layer, torch.nn.GRU, has its reset gate after the product, and the cell gru "
            "before it.\nUse --cell gru-after or --model scratch."
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f"PyTorch has no layer for the cell {options.cell}.\nUse --model scratch."
        )
    layer, _ = LAYERS[options.cell]
    if options.activation != "tanh" and layer is not nn.RNN:
        raise RNNScratchError(
            f"PyTorch's layer, torch.nn.{layer.__name__}, has no {options.activation} in place of "
            "tanh.\nUse --activation tanh or --model scratch."
        )


def _to_arrays(params, order):
    arrays = {}
    for names, param in params.items():
        gates = _transposed(names, array(param)), len(names.split())
        arrays.update(zip(names.split(), np.split(*gates, axis=-1)))
    return {name: arrays[name].copy() for name in order}


def _transposed(names, array):
    return array if names == "W_e" else array.T  # the layers keep their weights transposed
