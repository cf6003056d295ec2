"""The same model on PyTorch's own layers, ``torch.nn.RNN`` and ``torch.nn.Linear``."""

import torch
from torch import nn
from torch.nn import functional as F

from rnn_scratch.contract import Model

from .machine import array
from .scratch import state


def concise(arrays, options):
    """The model on the framework's own layers, with parameters that start at `arrays`."""
    V, H = arrays["W_xh"].shape
    where = {"dtype": getattr(torch, options.dtype), "device": options.device}
    recurrent = nn.RNN(V, H, nonlinearity=options.activation, **where)
    output = nn.Linear(H, V, **where)
    params = {
        "W_xh": recurrent.weight_ih_l0,  # (H, V): the layers keep their weights transposed
        "W_hh": recurrent.weight_hh_l0,
        "b_h": recurrent.bias_ih_l0,
        "W_hq": output.weight,
        "b_q": output.bias,
    }
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(torch.tensor(arrays[name].T))
        # The layer has a second bias, which would double the first: it stays zero, untrained.
        recurrent.bias_hh_l0.zero_().requires_grad_(False)

    def forward(tokens, state, params, options):
        (H,) = state
        inputs = F.one_hot(tokens.T, V).to(where["dtype"])  # (T, B, V)
        outputs, H = recurrent(inputs, H[None])  # (T, B, H), (1, B, H)
        return output(outputs.flatten(0, 1)), (H[0],)

    return Model(params, H, state, forward, _to_arrays, options)


def _to_arrays(params):
    return {name: array(param).T.copy() for name, param in params.items()}
