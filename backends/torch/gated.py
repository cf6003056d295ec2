"""The loops over time of the gated cells, for ``fast``.

The gates stand side by side, in the order of their parameters: G gates in (B, G*H), so that one
product with W_h (H, G*H) serves all of them. What the backward pass multiplies with, apart from
W_h, depends on values of the forward pass only: these coefficients are computed for all time steps
at once, and between two products the backward pass has only a few multiplications left.
"""

import torch
from torch.autograd.function import once_differentiable

from .products import by_columns, multiplier


def activation(z, options):
    """Hyperbolic tangent or ReLU, in place: nothing else needs z."""
    return torch.tanh_(z) if options.activation == "tanh" else torch.relu_(z)


def slope(h, options):
    """The derivative of the activation, from its value h."""
    return 1 - h * h if options.activation == "tanh" else (h > 0).to(h.dtype)


class GRU(torch.autograd.Function):
    """Inputs (T, B, 3H) and a state (B, H) to all hidden states (T, B, H)."""

    @staticmethod
    def forward(ctx, inputs, h_0, W_h, options):
        """Compute the gates z, r, and h for the new values, and the hidden states."""
        size, W = h_0.shape[1], by_columns(W_h, len(inputs))
        gates, hiddens = torch.empty_like(inputs), inputs.new_empty(len(inputs), *h_0.shape)
        resets, h = torch.empty_like(hiddens), h_0
        for t, x in enumerate(inputs):
            z, r, new = gates[t].chunk(3, 1)  # (B, H)
            zr = gates[t, :, : 2 * size]
            torch.addmm(x[:, : 2 * size], h, W[:, : 2 * size], out=zr).sigmoid_()
            torch.mul(r, h, out=resets[t])
            torch.addmm(x[:, 2 * size :], resets[t], W[:, 2 * size :], out=new)
            h = torch.lerp(activation(new, options), h, z, out=hiddens[t])
        ctx.save_for_backward(gates, hiddens, resets, h_0, W_h)
        ctx.options = options
        return (hiddens,)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens):
        """Compute dz, the gradient before the activations, from the last time step to the first."""
        gates, hiddens, resets, h_0, W_h = ctx.saved_tensors
        size, before = h_0.shape[1], torch.cat((h_0[None], hiddens[:-1]))  # (T, B, H)
        z, r, new = gates.chunk(3, 2)  # (T, B, H)
        dz = torch.cat(
            (
                (before - new) * z * (1 - z),
                before * r * (1 - r),
                (1 - z) * slope(new, ctx.options),
            ),
            2,
        )
        d_h = torch.zeros_like(h_0)
        for t in reversed(range(len(dz))):
            d_h = d_h + d_hiddens[t]
            d_z, d_r, d_new = dz[t].chunk(3, 1)
            d_reset = torch.mm(d_new.mul_(d_h), W_h[:, 2 * size :].T)
            d_z.mul_(d_h)
            d_r.mul_(d_reset)
            d_h = torch.addcmul(d_h * z[t], d_reset, r[t])
            d_h.addmm_(dz[t, :, : 2 * size], W_h[:, : 2 * size].T)
        products = (
            before.flatten(0, 1).T @ dz[:, :, : 2 * size].flatten(0, 1),
            resets.flatten(0, 1).T @ dz[:, :, 2 * size :].flatten(0, 1),
        )
        return dz, d_h, torch.cat(products, 1), None


class GRUAfter(torch.autograd.Function):
    """The same for the reset gate after the product."""

    @staticmethod
    def forward(ctx, inputs, h_0, W_h, options):
        """Compute the gates z, r, and h for the new values, and the hidden states."""
        size, product = h_0.shape[1], multiplier(W_h, len(inputs))
        gates, hiddens = torch.empty_like(inputs), inputs.new_empty(len(inputs), *h_0.shape)
        products, h, zeros = torch.empty_like(inputs), h_0, torch.zeros_like(inputs[0])
        for t, x in enumerate(inputs):
            z, r, new = gates[t].chunk(3, 1)  # (B, H)
            z_h = product(h, zeros, out=products[t])  # (B, 3H)
            zr = gates[t, :, : 2 * size]
            torch.add(x[:, : 2 * size], z_h[:, : 2 * size], out=zr).sigmoid_()
            torch.addcmul(x[:, 2 * size :], r, z_h[:, 2 * size :], out=new)
            h = torch.lerp(activation(new, options), h, z, out=hiddens[t])
        ctx.save_for_backward(gates, hiddens, products, h_0, W_h)
        ctx.options = options
        return (hiddens,)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens):
        """Compute dz, the gradients of the products, from the last time step to the first."""
        gates, hiddens, products, h_0, W_h = ctx.saved_tensors
        size, before = h_0.shape[1], torch.cat((h_0[None], hiddens[:-1]))  # (T, B, H)
        z, r, new = gates.chunk(3, 2)  # (T, B, H)
        to_new = (1 - z) * slope(new, ctx.options)
        dz = torch.stack(
            (
                (before - new) * z * (1 - z),
                to_new * products[:, :, 2 * size :] * r * (1 - r),
                to_new * r,
            ),
            2,
        )  # (T, B, 3, H)
        d_h, product = torch.zeros_like(h_0), multiplier(W_h.T, len(dz))
        for t in reversed(range(len(dz))):
            d_h = d_h + d_hiddens[t]
            to_new[t].mul_(d_h)
            dz[t].mul_(d_h[:, None])
            d_h = product(dz[t].flatten(1), d_h * z[t])
        dz = dz.flatten(2)
        d_W_h = before.flatten(0, 1).T @ dz.flatten(0, 1)
        return torch.cat((dz[:, :, : 2 * size], to_new), 2), d_h, d_W_h, None


class LSTM(torch.autograd.Function):
    """Inputs (T, B, 4H), h_0 and c_0 (B, H) to all h (T, B, H), and the last c."""

    # Hand-written backward pass of gates: autograd would go back through every operation of the
    # gates, and compute a product for W_h, at every time step.
    # Gain (lstm): 1.22 with 64 hidden units, 1.21 with 512.

    @staticmethod
    def forward(ctx, inputs, h_0, c_0, W_h, options):
        """Compute the gates i, f, o, and c for the new values, and both states."""
        size, product = h_0.shape[1], multiplier(W_h, len(inputs))
        gates, hiddens = torch.empty_like(inputs), inputs.new_empty(len(inputs), *h_0.shape)
        cells, outputs, h, c = torch.empty_like(hiddens), torch.empty_like(hiddens), h_0, c_0
        for t, x in enumerate(inputs):
            i, f, o, new = gates[t].chunk(4, 1)  # (B, H)
            product(h, x, out=gates[t])
            gates[t, :, : 3 * size].sigmoid_()
            activation(new, options)
            c = torch.addcmul(f * c, i, new, out=cells[t])
            h = torch.mul(o, activation(outputs[t].copy_(c), options), out=hiddens[t])
        ctx.save_for_backward(gates, hiddens, cells, outputs, h_0, c_0, W_h)
        ctx.options = options
        return hiddens, c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hiddens, d_c):
        """Compute dz, the gradient before the activations, from the last time step to the first."""
        gates, hiddens, cells, outputs, h_0, c_0, W_h = ctx.saved_tensors
        before = torch.cat((h_0[None], hiddens[:-1]))
        i, f, o, new = gates.chunk(4, 2)  # (T, B, H)
        # Coefficients at once: they depend on the forward pass only, and a few operations for all
        # time steps take less time than many small ones.
        # Gain (lstm): 1.28 with 64 hidden units, 1.00 with 512.
        dz = torch.stack(
            (
                new * i * (1 - i),
                torch.cat((c_0[None], cells[:-1])) * f * (1 - f),
                outputs * o * (1 - o),
                i * slope(new, ctx.options),
            ),
            2,
        )
        to_c = o * slope(outputs, ctx.options)
        d_h, product = d_hiddens[-1], multiplier(W_h.T, len(dz))
        for t in reversed(range(len(dz))):
            d_c = torch.addcmul(d_c, d_h, to_c[t])
            dz[t, :, :2].mul_(d_c[:, None])
            dz[t, :, 2].mul_(d_h)
            dz[t, :, 3].mul_(d_c)
            d_c = d_c * f[t]
            d_h = product(dz[t].flatten(1), d_hiddens[t - 1] if t > 0 else torch.zeros_like(d_h))
        dz = dz.flatten(2)
        return dz, d_h, d_c, before.flatten(0, 1).T @ dz.flatten(0, 1), None
