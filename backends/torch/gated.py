"""Loops over time for the gated cells in ``fast``.

A tensor (B, G*H) holds all G gates in the order of their parameters, so a single product with W_h
(H, G*H) computes them all. The elementwise factors of the backward pass depend only on values from
the forward pass. They are computed for all time steps at once, so each step of the backward loop
takes one matrix product and a few multiplications.
"""

import torch
from torch.autograd.function import once_differentiable

from .products import make_matmul, weight_grad


def tanh_slope(h):
    """Return the derivative of the hyperbolic tangent, given its value h."""
    return torch.addcmul(h.new_ones(()), h, h, value=-1)  # 1 - h * h in one pass


def gate_backward(d_gate, gate, out):
    """Backpropagate through a gate's sigmoid; write the pre-activation gradient to `out`."""
    return torch.ops.aten.sigmoid_backward.grad_input(d_gate, gate, grad_input=out)


def tanh_backward(d_h, h, out):
    """Backpropagate through a hyperbolic tangent; write the pre-activation gradient to `out`."""
    return torch.ops.aten.tanh_backward.grad_input(d_h, h, grad_input=out)


def unbind_time(*tensors):
    """Unbind tensors (T, ...) along the time axis; this is faster than indexing at every step."""
    return list(zip(*(tensor.unbind() for tensor in tensors)))


def allocate_states(state, num_steps):
    """Allocate states (T+1, B, H); copy `state` into the first; return all states and the first."""
    states = state.new_empty(num_steps + 1, *state.shape)
    return states, states[0].copy_(state)


class GRUAfter(torch.autograd.Function):
    """The GRU's loop over time, mapping inputs (T, B, 3H) and h_0 (B, H) to all h (T, B, H)."""

    @staticmethod
    def forward(ctx, inputs, h_0, W_h, b_hh):
        """Overwrite the inputs with the gates and candidate; compute the hidden states."""
        size, gates, product = h_0.shape[1], inputs, make_matmul(W_h, len(inputs))
        hiddens, h = allocate_states(h_0, len(inputs))
        products = torch.empty_like(hiddens[1:])
        for t, x in enumerate(inputs):
            z, r, h_tilde = x.chunk(3, 1)  # (B, H)
            z_h = product(h)  # (B, 3H)
            x[:, : 2 * size].add_(z_h[:, : 2 * size]).sigmoid_()
            h_tilde.addcmul_(r, torch.add(z_h[:, 2 * size :], b_hh, out=products[t]))
            h = torch.lerp(torch.tanh(h_tilde, out=h_tilde), h, z, out=hiddens[t + 1])
        ctx.save_for_backward(gates, hiddens, products, W_h)
        return (hiddens[1:],)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens):
        """Backpropagate through the loop; return gradients w.r.t. inputs, h_0, W_h and b_hh."""
        gates, hiddens, products, W_h = ctx.saved_tensors
        size, prev_hiddens = hiddens.shape[2], hiddens[:-1]  # (T, B, H)
        z, r, h_tilde = gates.chunk(3, 2)  # (T, B, H)
        coef_candidate = (1 - z) * tanh_slope(h_tilde)
        dz = torch.empty_like(gates).unflatten(2, (3, size))  # (T, B, 3, H)
        gate_backward(prev_hiddens - h_tilde, z, out=dz[:, :, 0])
        gate_backward(coef_candidate * products, r, out=dz[:, :, 1])
        torch.mul(coef_candidate, r, out=dz[:, :, 2])
        d_h, product = torch.zeros_like(hiddens[0]), make_matmul(W_h.T, len(dz))
        parts = d_hiddens, dz, coef_candidate, z
        for d_hidden, d_gates, d_h_tilde, z_t in reversed(unbind_time(*parts)):
            d_h = d_h + d_hidden
            d_h_tilde.mul_(d_h)
            d_gates.mul_(d_h[:, None])
            d_h = product(d_gates.flatten(1), d_h * z_t)
        dz = dz.flatten(2)
        d_W_h, d_b_hh = weight_grad(prev_hiddens, dz), dz[:, :, 2 * size :].sum((0, 1))
        dz[:, :, 2 * size :] = coef_candidate  # already scaled by d_h: gradient w.r.t. inputs
        return dz, d_h, d_W_h, d_b_hh


class LSTM(torch.autograd.Function):
    """The LSTM's loop over time, mapping inputs (T, B, 4H), h_0 and c_0 to all h and the last c."""

    # Hand-written backward pass of gates: autograd would differentiate every gate operation
    # and compute W_h's gradient at every time step.

    @staticmethod
    def forward(ctx, inputs, h_0, c_0, W_h):
        """Overwrite the inputs with the candidate and gates; compute the hidden and cell states."""
        size, gates, product = h_0.shape[1], inputs, make_matmul(W_h, len(inputs))
        hiddens, h = allocate_states(h_0, len(inputs))
        cells, c = allocate_states(c_0, len(inputs))
        outputs = torch.empty_like(hiddens[1:])
        parts = gates, gates[:, :, size:], *gates.chunk(4, 2), cells[1:], outputs, hiddens[1:]
        for x, ifo, c_tilde, i, f, o, next_c, output, next_h in unbind_time(*parts):
            z_c, z_ifo = product(h, x, out=x).split([size, 3 * size], 1)  # (B, H), (B, 3H)
            torch.sigmoid(z_ifo, out=ifo)
            torch.tanh(z_c, out=c_tilde)
            c = torch.mul(f, c, out=next_c).addcmul_(i, c_tilde)
            h = torch.mul(o, torch.tanh(c, out=output), out=next_h)
        ctx.save_for_backward(gates, hiddens, cells, outputs, W_h)
        return hiddens[1:], c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens, d_c):
        """Backpropagate through the loop; return gradients w.r.t. inputs, h_0, c_0 and W_h."""
        gates, hiddens, cells, outputs, W_h = ctx.saved_tensors
        c_tilde, i, f, o = gates.chunk(4, 2)  # (T, B, H)
        # Precomputed coefficients: a few large operations over all time steps are faster than many
        # small operations.
        dz, coef_c = torch.empty_like(gates), torch.empty_like(outputs)
        d_c_tilde, d_i, d_f, d_o = dz.chunk(4, 2)
        tanh_backward(o, outputs, out=coef_c)
        tanh_backward(i, c_tilde, out=d_c_tilde)
        gate_backward(c_tilde, i, out=d_i)
        gate_backward(cells[:-1], f, out=d_f)
        gate_backward(outputs, o, out=d_o)
        d_c_i_f = dz.unflatten(2, (4, -1))[:, :, :3]  # (T, B, 3, H)
        product, memory = make_matmul(W_h.T, len(dz)), torch.empty_like(d_c)
        steps, d_hiddens = unbind_time(dz, d_c_i_f, d_o, f, coef_c), d_hiddens.unbind()
        d_h = d_hiddens[-1]
        for t, (d_z, d_c_i_f_t, d_o_t, f_t, coef_c_t) in reversed(list(enumerate(steps))):
            d_c = torch.addcmul(d_c, d_h, coef_c_t)
            d_c_i_f_t.mul_(d_c[:, None])
            d_o_t.mul_(d_h)
            d_c = d_c.mul_(f_t)
            if t > 0:
                d_h = product(d_z, d_hiddens[t - 1], out=memory)
        d_h = dz[0] @ W_h.T if ctx.needs_input_grad[1] else None
        return dz, d_h, d_c, weight_grad(hiddens[:-1], dz)


def single_step(inputs, state, params, cell):
    """Run one time step without gradients, avoiding the overhead of an autograd function."""
    (x,), h, W_h, size = inputs, state[0], params["W_h"], state[0].shape[1]  # x (B, G*H)
    if cell == "gru-after":
        y = h @ W_h
        z, r = torch.sigmoid(x[:, : 2 * size] + y[:, : 2 * size]).chunk(2, 1)  # (B, H)
        h_tilde = torch.tanh(x[:, 2 * size :] + r * (y[:, 2 * size :] + params["b_hh"]))
        return (torch.lerp(h_tilde, h, z)[None],)
    z = torch.addmm(x, h, W_h)
    if cell == "lstm":
        i, f, o = torch.sigmoid(z[:, size:]).chunk(3, 1)  # (B, H)
        c = f * state[1] + i * torch.tanh(z[:, :size])
        return (o * torch.tanh(c))[None], c
    return ((torch.tanh(z) if cell == "rnn" else torch.relu(z))[None],)
