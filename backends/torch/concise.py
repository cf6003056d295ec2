"""The same model on PyTorch's own layers, ``torch.nn.RNN`` and ``torch.nn.Linear``."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from rnn_scratch.contract import Model

from . import scratch
from .machine import array


def build(arrays, options):
    """The model on PyTorch's own layers, with parameters that start at these arrays."""
    V, (N, H) = len(arrays["b_q"]), arrays["W_xh"].shape  # N is V where inputs are one-hot
    where = {"dtype": getattr(torch, options.dtype), "device": options.device}
    embedding = nn.Embedding(V, N, **where) if "W_e" in arrays else None
    recurrent = nn.RNN(N, H, nonlinearity=options.activation, **where)
    output = nn.Linear(H, V, **where)
    params = {
        **({"W_e": embedding.weight} if embedding else {}),
        "W_xh": recurrent.weight_ih_l0,  # (H, V): the layers keep their weights transposed
        "W_hh": recurrent.weight_hh_l0,
        "b_h": recurrent.bias_ih_l0,
        "W_hq": output.weight,
        "b_q": output.bias,
    }
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(torch.tensor(_transposed(name, arrays[name])))
        # The layer has a second bias, which would double the first: it stays zero, untrained.
        recurrent.bias_hh_l0.zero_().requires_grad_(False)

    def forward(tokens, state):
        (H,) = state
        one_hot_or_rows = embedding or (lambda tokens: F.one_hot(tokens, V).to(where["dtype"]))
        inputs = one_hot_or_rows(tokens.T)  # (T, B, N)
        outputs, H = recurrent(inputs, H[None])  # (T, B, H), (1, B, H)
        return output(outputs.flatten(0, 1)), (H[0],)

    return Model(params, options, forward, partial(scratch.state, options=options), _to_arrays)


def _to_arrays(params):
    return {name: _transposed(name, array(param)).copy() for name, param in params.items()}


def _transposed(name, array):
    return array if name == "W_e" else array.T
