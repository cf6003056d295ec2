"""The model of ``scratch``, optimized by hand.

It computes the same numbers, up to rounding. Each optimization has a name, under which a comment
here or in the modules beside it gives its reason and what it gains: the time of a training
minibatch without it relative to the time with it (rnn, B 32, T 35, V 28, float32, one thread,
unless it says otherwise).
"""

from functools import partial

import torch
from torch.nn import functional as F

from rnn_scratch.contract import RNNScratchError, bind
from rnn_scratch.parameters import by_layer, join_gates, of_layer, split_gates, tokens_and_masks

from . import machine, scratch
from .gated import GRU, LSTM, GRUAfter, over_time, tanh, tanh_slope
from .products import linear, multiplier


def params(arrays, options):
    """The parameters of ``scratch``, all gates side by side."""
    # Gates in one product: G gates are one matrix (H, G*H), which a layer multiplies with at once.
    # Gain (lstm): 1.28 with 64 hidden units, 1.11 with 512.
    return scratch.params(join_gates(arrays, options), options)


def forward(inputs, state, params, options):
    """All time steps: tokens (B, T), or these and masks (T, L, B, H), to logits (T*B, V)."""
    (tokens, masks), loop = tokens_and_masks(inputs), CELLS[options.cell]
    after, outputs = (), None
    for layer, before in enumerate(by_layer(state, options)):
        own = of_layer(params, layer)
        x = rows(tokens.T, params) if layer == 0 else upwards(outputs, own)  # (T, B, G*H)
        hiddens, *last = loop(x, *before, own["W_h"])  # (T, B, H)
        outputs = hiddens if masks is None else hiddens * masks[:, layer]
        after += hiddens[-1], *last
    # One output layer: it does not feed back, so one product can serve all time steps.
    # Gain: 1.36 with 64 hidden units, 1.06 with 512.
    return linear(outputs.flatten(0, 1), params["W_hq"], params["b_q"]), after


def upwards(outputs, params):
    """What goes into a layer from the one below: (T, B, H) to (T, B, G*H), in one product."""
    inputs = linear(outputs.flatten(0, 1), params["W_x"], params["b"])
    return inputs.view(*outputs.shape[:2], -1)


def rows(tokens, params):
    """Rows of W_x, or of W_e W_x, for the tokens, and b added: tokens (...) to (..., G*H)."""
    # Rows instead of products: a one-hot vector times a matrix is one of the matrix's rows.
    # F.embedding takes rows as an index does, but sums their gradients faster.
    # Gain: 1.04 with 64 hidden units, 1.03 with 512.
    W_x, b = params["W_x"], params["b"]
    if tokens.numel() < len(params["b_q"]):  # fewer tokens than rows: a step of generating text
        embedded = F.embedding(tokens, params["W_e"]) @ W_x if "W_e" in params else None
        return (F.embedding(tokens, W_x) if embedded is None else embedded) + b
    # Bias in the table: it is added to V rows instead of T*B.
    # Gain: 1.01 with 64 hidden units, 1.01 with 512.
    return F.embedding(tokens, (params["W_e"] @ W_x if "W_e" in params else W_x) + b)


class Recurrence(torch.autograd.Function):
    """The loop over time of `rnn`: inputs (T, B, H) and h_0 (B, H) to hidden states (T, B, H)."""

    # Hand-written backward pass: autograd would compute a product for W_h at every time step.
    # Gain: 1.18 with 64 hidden units, 1.17 with 512.

    @staticmethod
    def forward(ctx, inputs, h_0, W_h, relu):
        """Compute the hidden states in the memory of the inputs."""
        # In place: each input becomes a hidden state, as new memory costs more than the additions.
        # Gain: 1.14 with 64 hidden units, 1.08 with 512.
        hiddens, h = inputs, h_0
        product = multiplier(W_h, len(inputs))
        activation = partial(torch.clamp, min=0) if relu else tanh
        for z in hiddens.unbind():
            h = activation(product(h, z), out=z)  # (B, H)
        ctx.mark_dirty(hiddens)
        ctx.save_for_backward(hiddens, h_0, W_h)
        ctx.relu = relu
        return (hiddens,)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_hiddens):
        """Compute dz, the gradient before the activation, from the last time step to the first."""
        hiddens, h_0, W_h = ctx.saved_tensors
        product = multiplier(W_h.T, len(hiddens))
        slope = (hiddens > 0).to(hiddens.dtype) if ctx.relu else tanh_slope(hiddens)
        dz = slope  # (T, B, H), in place from here on
        d_z, d_h = dz.unbind(), d_hiddens.unbind()  # (B, H); indexing at each step takes longer
        d_z[-1].mul_(d_h[-1])
        for t in reversed(range(len(dz) - 1)):
            d_z[t].mul_(product(d_z[t + 1], d_h[t]))
        # One product per gradient: the sum over time is part of a matrix product.
        # Gain: 1.13 with 64 hidden units, 1.09 with 512.
        d_W_h = over_time(hiddens[:-1], dz[1:])  # all but the first step's
        d_W_h += h_0.T @ dz[0]
        d_h = dz[0] @ W_h.T if ctx.needs_input_grad[1] else None
        return dz, d_h, d_W_h, None


CELLS = {
    "rnn": lambda *tensors: Recurrence.apply(*tensors, False),
    "gru": GRU.apply,
    "gru-after": GRUAfter.apply,
    "lstm": LSTM.apply,
    "rnn-relu": lambda *tensors: Recurrence.apply(*tensors, True),
}


def build(arrays, options):
    """The optimized model, with parameters that start at these arrays."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f"The optimized model has no cell {options.cell!r}.\nUse --model scratch."
        )

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options)

    return bind(params(arrays, options), options, forward, scratch.state, to_arrays)
