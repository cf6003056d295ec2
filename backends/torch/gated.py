"""The loops over time of the gated cells, for ``fast``.

The gates stand side by side, in the order of their parameters: G gates in (B, G*H), so that one
product with W_h (H, G*H) serves all of them. What the backward pass multiplies with, apart from
W_h, depends on values of the forward pass only: these coefficients are computed for all time steps
at once, and between two products the backward pass has only a few multiplications left.
"""

import torch
from torch.autograd.function import once_differentiable

from .products import multiplier, weight_gradient

MINUS_ONE = torch.tensor(-1.0)
sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input


def tanh(z, out):
    """Hyperbolic tangent, written to `out`."""
    if z.numel() < 2**13:
        return torch.tanh(z, out=out)
    # Tanh by the sigmoid: tanh z = 2 sigmoid(2z) - 1, and PyTorch's sigmoid is faster.
    # Gain: 1.00 with 64 hidden units, 1.04 with 512.
    return torch.add(MINUS_ONE, torch.add(z, z, out=out).sigmoid_(), alpha=2, out=out)


def tanh_slope(h):
    """The derivative of the hyperbolic tangent, from its value h."""
    return torch.addcmul(h.new_ones(()), h, h, value=-1)  # 1 - h h, in one pass


def gate_back(d_gate, gate, out):
    """The gradient before a gate's sigmoid, from that of its value, written to `out`."""
    return sigmoid_backward(d_gate, gate, grad_input=out)


def by_step(*tensors):
    """What these tensors (T, ...) have at each time step; to index them there takes longer."""
    return list(zip(*(tensor.unbind() for tensor in tensors)))


def beginning(state, times):
    """Memory for all states (T+1, B, H), of which this one (B, H) is the first, and the first."""
    states = state.new_empty(times + 1, *state.shape)
    return states, states[0].copy_(state)


def over_time(h, dz):
    """The gradient of W_h (K, M), summed over time, from h (T, B, K) and dz (T, B, M)."""
    return weight_gradient(h.flatten(0, 1), dz.flatten(0, 1))


class GRU(torch.autograd.Function):
    """Inputs (T, B, 3H) and a state (B, H) to all hidden states (T, B, H)."""

    @staticmethod
    def forward(ctx, inputs, h_0, W_h):
        """Compute the gates z, r, and h for the new values, and the hidden states."""
        size, gates, times = h_0.shape[1], inputs, len(inputs)
        to_gates = multiplier(W_h[:, : 2 * size], times)
        to_new = multiplier(W_h[:, 2 * size :], times)
        hiddens, h = beginning(h_0, times)
        resets = torch.empty_like(hiddens[1:])
        for t, x in enumerate(inputs):
            z, r, new = x.chunk(3, 1)  # (B, H)
            torch.sigmoid(to_gates(h, x[:, : 2 * size]), out=x[:, : 2 * size])
            torch.mul(r, h, out=resets[t])
            tanh(to_new(resets[t], new), out=new)
            h = torch.lerp(new, h, z, out=hiddens[t + 1])
        ctx.save_for_backward(gates, hiddens, resets, W_h)
        return (hiddens[1:],)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens):
        """Compute dz, the gradient before the activations, from the last time step to the first."""
        gates, hiddens, resets, W_h = ctx.saved_tensors
        size, before = hiddens.shape[2], hiddens[:-1]  # (T, B, H)
        z, r, new = gates.chunk(3, 2)  # (T, B, H)
        dz = torch.empty_like(gates)
        d_z, d_r, d_new = dz.chunk(3, 2)
        gate_back(before - new, z, out=d_z)
        gate_back(before, r, out=d_r)
        torch.mul(1 - z, tanh_slope(new), out=d_new)
        from_gates = multiplier(W_h[:, : 2 * size].T, len(dz))
        from_new = multiplier(W_h[:, 2 * size :].T, len(dz))
        d_h = torch.zeros_like(hiddens[0])
        d_zr = dz[:, :, : 2 * size]
        for each in reversed(by_step(d_hiddens, d_zr, d_z, d_r, d_new, z, r)):
            d_hidden, d_zr_t, d_z_t, d_r_t, d_new_t, z_t, r_t = each
            d_h = d_h + d_hidden
            d_reset = from_new(d_new_t.mul_(d_h))
            d_z_t.mul_(d_h)
            d_r_t.mul_(d_reset)
            d_h = torch.addcmul(d_h * z_t, d_reset, r_t)
            d_h = from_gates(d_zr_t, d_h)
        products = over_time(before, d_zr), over_time(resets, d_new)
        return dz, d_h, torch.cat(products, 1)


class GRUAfter(torch.autograd.Function):
    """The same for the reset gate after the product."""

    @staticmethod
    def forward(ctx, inputs, h_0, W_h):
        """Compute the gates z, r, and h for the new values, and the hidden states."""
        size, gates, product = h_0.shape[1], inputs, multiplier(W_h, len(inputs))
        hiddens, h = beginning(h_0, len(inputs))
        products = torch.empty_like(hiddens[1:])
        for t, x in enumerate(inputs):
            z, r, new = x.chunk(3, 1)  # (B, H)
            z_h = product(h)  # (B, 3H)
            x[:, : 2 * size].add_(z_h[:, : 2 * size]).sigmoid_()
            new.addcmul_(r, products[t].copy_(z_h[:, 2 * size :]))
            h = torch.lerp(tanh(new, out=new), h, z, out=hiddens[t + 1])
        ctx.save_for_backward(gates, hiddens, products, W_h)
        return (hiddens[1:],)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens):
        """Compute dz, the gradients of the products, from the last time step to the first."""
        gates, hiddens, products, W_h = ctx.saved_tensors
        size, before = hiddens.shape[2], hiddens[:-1]  # (T, B, H)
        z, r, new = gates.chunk(3, 2)  # (T, B, H)
        to_new = (1 - z) * tanh_slope(new)
        dz = torch.empty_like(gates).unflatten(2, (3, size))  # (T, B, 3, H)
        gate_back(before - new, z, out=dz[:, :, 0])
        gate_back(to_new * products, r, out=dz[:, :, 1])
        torch.mul(to_new, r, out=dz[:, :, 2])
        d_h, product = torch.zeros_like(hiddens[0]), multiplier(W_h.T, len(dz))
        for d_hidden, d_gates, d_new, z_t in reversed(by_step(d_hiddens, dz, to_new, z)):
            d_h = d_h + d_hidden
            d_new.mul_(d_h)
            d_gates.mul_(d_h[:, None])
            d_h = product(d_gates.flatten(1), d_h * z_t)
        dz = dz.flatten(2)
        d_W_h = over_time(before, dz)
        dz[:, :, 2 * size :] = to_new  # from the gradient of the products to that of the inputs
        return dz, d_h, d_W_h


class LSTM(torch.autograd.Function):
    """Inputs (T, B, 4H), h_0 and c_0 (B, H) to all h (T, B, H), and the last c."""

    # Hand-written backward pass of gates: autograd would go back through every operation of the
    # gates, and compute a product for W_h, at every time step.
    # Gain (lstm): 1.37 with 64 hidden units, 1.32 with 512.

    @staticmethod
    def forward(ctx, inputs, h_0, c_0, W_h):
        """Compute the gates i, f, o, and c for the new values, and both states."""
        size, gates, product = h_0.shape[1], inputs, multiplier(W_h, len(inputs))
        (hiddens, h), (cells, c) = beginning(h_0, len(inputs)), beginning(c_0, len(inputs))
        outputs = torch.empty_like(hiddens[1:])
        for t, x in enumerate(inputs):
            i, f, o, new = x.chunk(4, 1)  # (B, H)
            z = product(h, x)
            torch.sigmoid(z[:, : 3 * size], out=x[:, : 3 * size])
            tanh(z[:, 3 * size :], out=new)
            c = torch.addcmul(f * c, i, new, out=cells[t + 1])
            h = torch.mul(o, tanh(c, out=outputs[t]), out=hiddens[t + 1])
        ctx.save_for_backward(gates, hiddens, cells, outputs, W_h)
        return hiddens[1:], c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens, d_c):
        """Compute dz, the gradient before the activations, from the last time step to the first."""
        gates, hiddens, cells, outputs, W_h = ctx.saved_tensors
        i, f, o, new = gates.chunk(4, 2)  # (T, B, H)
        # Coefficients at once: they depend on the forward pass only, and a few operations for all
        # time steps take less time than many small ones.
        # Gain (lstm): 1.28 with 64 hidden units, 1.01 with 512.
        to_c, to_new, forget = o * tanh_slope(outputs), i * tanh_slope(new), f.clone()
        gate_back(new, i, out=i)  # in the memory of the gates
        gate_back(cells[:-1], f, out=f)
        gate_back(outputs, o, out=o)
        new.copy_(to_new)
        dz = gates.unflatten(2, (4, -1))  # (T, B, 4, H)
        d_h, product = torch.zeros_like(d_c), multiplier(W_h.T, len(dz))
        parts = d_hiddens, dz, i, f, o, new, forget, to_c
        for d_hidden, d_z, d_i, d_f, d_o, d_new, f_t, to_c_t in reversed(by_step(*parts)):
            d_h = d_h.add_(d_hidden)
            d_c = torch.addcmul(d_c, d_h, to_c_t)
            d_i.mul_(d_c)
            d_f.mul_(d_c)
            d_o.mul_(d_h)
            d_new.mul_(d_c)
            d_c = d_c * f_t
            d_h = product(d_z.flatten(1))
        return gates, d_h, d_c, over_time(hiddens[:-1], gates)
