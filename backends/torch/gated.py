"""The loops over time of the gated cells, for ``fast``.

The gates stand side by side, in the order of their parameters: G gates in (B, G*H), so that one
product with W_h (H, G*H) serves all of them. What the backward pass multiplies with, apart from
W_h, depends on values of the forward pass only: these coefficients are computed for all time steps
at once, and between two products the backward pass has only a few multiplications left.
"""

import torch
from torch.autograd.function import once_differentiable

from .machine import multiplier


def activation(z, options):
    """Hyperbolic tangent or ReLU, in place: nothing else needs z."""
    if options.activation == "relu":
        return torch.relu_(z)
    if z.dtype == torch.float64 or z.device.type != "cpu":
        return torch.tanh_(z)
    # Tanh by sigmoid: tanh z = 2 sigmoid(2z) - 1, within 2e-7, and PyTorch computes the sigmoid of
    # a float32 six times faster.
    # Gain: .
    return z.mul_(2).sigmoid_().mul_(2).sub_(1)


def slope(h, options):
    """The derivative of the activation, from its value h."""
    return 1 - h * h if options.activation == "tanh" else (h > 0).to(h.dtype)


class GRU(torch.autograd.Function):
    """Inputs (T, B, 3H) and a state (B, H) to all hidden states (T, B, H)."""

    @staticmethod
    def forward(ctx, inputs, h_0, W_h, options):
        """Compute the gates z, r, and h for the new values, and the hidden states."""
        times, size = len(inputs), h_0.shape[1]
        to_zr, to_new = (multiplier(W, times) for W in W_h.tensor_split([2 * size], 1))
        gates, hiddens = torch.empty_like(inputs), inputs.new_empty(times, *h_0.shape)
        resets, h = torch.empty_like(hiddens), h_0
        for t, x in enumerate(inputs):
            z, r, new = gates[t].chunk(3, 1)  # (B, H)
            torch.sigmoid(to_zr(h, x[:, : 2 * size]), out=gates[t, :, : 2 * size])
            torch.mul(r, h, out=resets[t])
            new.copy_(activation(to_new(resets[t], x[:, 2 * size :]), options))
            h = torch.lerp(new, h, z, out=hiddens[t])
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
        from_zr, from_new = (multiplier(W.T, len(dz)) for W in W_h.tensor_split([2 * size], 1))
        d_h, zeros = torch.zeros_like(h_0), torch.zeros_like(h_0)
        for t in reversed(range(len(dz))):
            d_h = d_h + d_hiddens[t]
            d_z, d_r, d_new = dz[t].chunk(3, 1)
            d_reset = from_new(d_new.mul_(d_h), zeros)
            d_z.mul_(d_h)
            d_r.mul_(d_reset)
            d_h = from_zr(dz[t, :, : 2 * size], torch.addcmul(d_h * z[t], d_reset, r[t]))
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
        times, size = len(inputs), h_0.shape[1]
        product = multiplier(W_h, times)
        gates, hiddens = torch.empty_like(inputs), inputs.new_empty(times, *h_0.shape)
        products, h, zeros = torch.empty_like(inputs), h_0, torch.zeros_like(inputs[0])
        for t, x in enumerate(inputs):
            z, r, new = gates[t].chunk(3, 1)  # (B, H)
            products[t] = product(h, zeros)  # (B, 3H)
            zr = gates[t, :, : 2 * size]
            torch.add(x[:, : 2 * size], products[t, :, : 2 * size], out=zr).sigmoid_()
            torch.addcmul(x[:, 2 * size :], r, products[t, :, 2 * size :], out=new)
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
        back, d_h = multiplier(W_h.T, len(dz)), torch.zeros_like(h_0)
        for t in reversed(range(len(dz))):
            d_h = d_h + d_hiddens[t]
            to_new[t].mul_(d_h)
            dz[t].mul_(d_h[:, None])
            d_h = back(dz[t].flatten(1), d_h * z[t])
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
        times, size = len(inputs), h_0.shape[1]
        product = multiplier(W_h, times)
        gates, hiddens = torch.empty_like(inputs), inputs.new_empty(times, *h_0.shape)
        cells, outputs, h, c = torch.empty_like(hiddens), torch.empty_like(hiddens), h_0, c_0
        for t, x in enumerate(inputs):
            i, f, o, new = gates[t].chunk(4, 1)  # (B, H)
            z = product(h, x)  # (B, 4H)
            torch.sigmoid(z[:, : 3 * size], out=gates[t, :, : 3 * size])
            new.copy_(activation(z[:, 3 * size :], options))
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
        back, d_h = multiplier(W_h.T, len(dz)), d_hiddens[-1]
        for t in reversed(range(len(dz))):
            d_c = torch.addcmul(d_c, d_h, to_c[t])
            dz[t, :, :2].mul_(d_c[:, None])
            dz[t, :, 2].mul_(d_h)
            dz[t, :, 3].mul_(d_c)
            d_c = d_c * f[t]
            d_h = back(dz[t].flatten(1), d_hiddens[t - 1] if t > 0 else torch.zeros_like(d_h))
        dz = dz.flatten(2)
        return dz, d_h, d_c, before.flatten(0, 1).T @ dz.flatten(0, 1), None
