"""The ``scratch`` model, optimized by hand; its results match those of ``scratch`` up to rounding.

A comment here or in a sibling module explains each main optimization and starts with its name. The
project's website lists the speedups.
"""

from functools import partial

import torch
from torch.nn import functional as F

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import join_gates, select_layer, split_by_layer, split_gates

from . import machine, scratch
from .gated import LSTM, GRUAfter, single_step, tanh_slope
from .products import make_matmul, weight_grad

# Gate order of cells that do not use the contract's order. In an LSTM, d_c then scales neighboring
# columns (candidate, i, f) in one operation, and the sigmoid's gates are neighbors as well.
GATES = {"lstm": "cifo"}


def init_params(arrays, options):
    """Create the parameters of ``scratch`` with the gates concatenated."""
    # Fused gates: the weights of all G gates form one matrix (H, G*H).
    return scratch.init_params(join_gates(arrays, options, GATES.get(options.cell, "")), options)


def forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    loop, next_state, outputs = CELLS[options.cell], (), None
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_params = select_layer(params, layer)
        if layer == 0:
            inputs = lookup_inputs(tokens.T, params)  # (T, B, G*H)
        else:
            inputs = project_inputs(outputs, layer_params)
        if len(inputs) == 1 and not torch.is_grad_enabled():  # text generation
            hiddens, *c = single_step(inputs, layer_state, layer_params, options.cell)
        else:
            recurrent = recurrent_params(layer_params)
            hiddens, *c = loop(inputs, *layer_state, *recurrent)  # (T, B, H)
        outputs = hiddens if masks is None else hiddens * masks[:, layer]
        next_state += hiddens[-1], *c
    # Batched output layer: the logits are not fed back, so one product computes all of them.
    return torch.addmm(params["b_q"], outputs.flatten(0, 1), params["W_hq"]), next_state


def gradients(params, batch, state, options):
    """Return the results of ``scratch.gradients`` for this module's `forward`."""
    variant_forward = partial(forward, masks=batch.masks)
    return scratch.gradients(params, batch, state, options, variant_forward)


def recurrent_params(params):
    """Return a layer's recurrent weights W_h (H, G*H) and, for `gru-after`, the bias b_hh (H,)."""
    return [params[name] for name in ("W_h", "b_hh") if name in params]


def project_inputs(outputs, params):
    """Project a layer's outputs (T, B, H) to the next layer's gate inputs (T, B, G*H)."""
    inputs = torch.addmm(params["b"], outputs.flatten(0, 1), params["W_x"])
    return inputs.view(*outputs.shape[:2], -1)


def lookup_inputs(tokens, params):
    """Look up gate inputs (..., G*H) for tokens (...): rows of W_x (or W_e W_x) plus b."""
    # Embedding lookup: multiplying by one-hot vectors only selects rows of a matrix.
    # F.embedding accumulates the gradient of each row faster than indexing does.
    W_x, b = params["W_x"], params["b"]
    if tokens.numel() < len(params["b_q"]):  # text generation: fewer tokens than table rows
        rows = F.embedding(tokens, params.get("W_e", W_x))
        return (rows @ W_x if "W_e" in params else rows) + b
    # Bias folded into the table: add b to V table rows instead of T*B input rows.
    return F.embedding(tokens, (params["W_e"] @ W_x if "W_e" in params else W_x) + b)


class Recurrence(torch.autograd.Function):
    """The RNN's loop over time, mapping inputs (T, B, H) and h_0 (B, H) to all h (T, B, H)."""

    # Hand-written backward pass: autograd would compute W_h's gradient at every time step.

    @staticmethod
    def forward(ctx, inputs, h_0, W_h, relu):
        """Compute the hidden states, overwriting the inputs."""
        # In place: hidden states overwrite inputs, because allocation takes longer than addition.
        hiddens, h = inputs, h_0
        product = make_matmul(W_h, len(inputs))  # product(h, z) = z + h @ W_h
        activation = partial(torch.clamp, min=0) if relu else torch.tanh
        for z in hiddens.unbind():
            h = activation(product(h, z, out=z), out=z)  # (B, H)
        ctx.mark_dirty(hiddens)
        ctx.save_for_backward(hiddens, h_0, W_h)
        ctx.relu = relu
        return (hiddens,)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_hiddens):
        """Backpropagate through the loop; return gradients w.r.t. inputs, h_0 and W_h."""
        hiddens, h_0, W_h = ctx.saved_tensors
        product = make_matmul(W_h.T, len(hiddens))
        dz = (hiddens > 0).to(hiddens.dtype) if ctx.relu else tanh_slope(hiddens)  # slope (T, B, H)
        d_z, d_h = dz.unbind(), d_hiddens.unbind()  # (B, H); unbinding once is faster than indexing
        d_z[-1].mul_(d_h[-1])
        for t in reversed(range(len(dz) - 1)):
            d_z[t].mul_(product(d_z[t + 1], d_h[t]))
        # Batched weight gradient: a single matrix product also sums over time.
        d_W_h = weight_grad(hiddens[:-1], dz[1:])  # all steps except the first
        d_W_h += h_0.T @ dz[0]
        d_h = dz[0] @ W_h.T if ctx.needs_input_grad[1] else None
        return dz, d_h, d_W_h, None


CELLS = {
    "rnn": lambda *tensors: Recurrence.apply(*tensors, False),
    "gru-after": GRUAfter.apply,
    "lstm": LSTM.apply,
    "rnn-relu": lambda *tensors: Recurrence.apply(*tensors, True),
}


def build(arrays, options):
    """Build the optimized model from initial parameter values."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f'The `fast` variant has no cell {options.cell}.\nUse `variant="scratch"`.'
        )

    def to_arrays(params):
        gates = GATES.get(options.cell, "")
        return split_gates(machine.to_arrays(params), options, gates)

    params, train_minibatch = init_params(arrays, options), scratch.train_minibatch
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)
