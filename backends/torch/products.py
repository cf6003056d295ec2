"""Matrix products in the forms that PyTorch computes fastest."""

import functools

import torch


def make_matmul(W, num_calls):
    """Return a function (h, z=None) that computes z + h @ W, optimized for `num_calls` calls."""
    # Packed weights: oneDNN multiplies faster by large weights after packing them into blocks.
    if num_calls > 1 and should_use_onednn(W, W.numel()):
        return make_packed_matmul(W)
    return lambda h, z=None: h @ W if z is None else torch.addmm(z, h, W)


def linear(h, W, b):
    """Compute h @ W + b (N, M) from h (N, K), W (K, M) and b (M,)."""
    return Linear.apply(h, W, b) if should_use_onednn(h, h.numel()) else torch.addmm(b, h, W)


class Linear(torch.autograd.Function):
    """A version of `linear` that uses oneDNN in the forward and backward passes."""

    @staticmethod
    def forward(ctx, h, W, b):
        """Compute h @ W + b."""
        ctx.save_for_backward(h, W)
        return onednn_linear(h, W, b)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dz):
        """Compute the gradients w.r.t. h, W and b."""
        h, W = ctx.saved_tensors
        return onednn_linear(dz, W.T), weight_grad(h, dz), dz.sum(0)


def weight_grad(h, dz):
    """Return the gradient w.r.t. W (K, M) for the input h (N, K) and output gradient dz (N, M)."""
    if len(h) and should_use_onednn(h, h.shape[1] * dz.shape[1]):  # oneDNN needs at least one row
        # Make dz contiguous, because oneDNN is slow if there are gaps between rows.
        return onednn_linear(h.T, dz.contiguous())
    if dz.shape[1] < h.shape[1]:  # narrow layer: this form takes half the time
        return (dz.T @ h).T
    return h.T @ dz


def should_use_onednn(tensor, size):
    """Return whether to use oneDNN: for large products of float32 tensors on the CPU.

    `size` is the number of elements of one matrix of the product: h, the weights or the result.
    """
    is_large = size >= 2**18
    is_float32_on_cpu = tensor.dtype == torch.float32 and tensor.device.type == "cpu"
    return is_large and is_float32_on_cpu and onednn_packing_works()


def onednn_linear(h, W, b=None):
    """Compute `linear` with the oneDNN operation that PyTorch's compiler uses."""
    return torch.ops.mkldnn._linear_pointwise(h, W.T, b, "none", [], "")


def make_packed_matmul(W):
    """Return a function (h, z=None) that computes z + h @ W with weights packed for oneDNN."""
    weights = torch.ops.mkldnn._reorder_linear_weight(W.T.contiguous(), None)
    linear = torch.ops.mkldnn._linear_pointwise

    def product(h, z=None):
        if z is None:
            return linear(h, weights, None, "none", [], "")
        return linear.binary(h, z, weights, None, "add")

    return product


@functools.cache
def onednn_packing_works():
    """Return whether PyTorch's undocumented oneDNN operations exist and work correctly."""
    W = torch.arange(12.0).reshape(3, 4)
    h, z = W[:, :3], W + 0.5
    try:
        product = make_packed_matmul(W)
        pairs = (product(h), h @ W), (product(h, z), z + h @ W), (onednn_linear(h, W), h @ W)
        return all(torch.equal(actual, expected) for actual, expected in pairs)
    except (AttributeError, RuntimeError, TypeError):
        return False
