"""Matrix products in the forms that PyTorch computes fastest."""

import functools

import torch

from rnn_scratch.system import host


def make_matmul(W, num_calls):
    """Return a function that computes z + h @ W, optimized for `num_calls` calls.

    The function takes h, z=None and out=None; it may write the result to `out`, which may be z.
    """
    # Packed weights: arrange large weights once in the order in which the library reads them. On
    # AMD processors, oneDNN is faster than MKL. Elsewhere, a contiguous copy of W.T is faster.
    if num_calls > 1 and should_use_onednn(W, W.numel()):
        weights = torch.ops.mkldnn._reorder_linear_weight(W.T.contiguous(), None)
        linear = torch.ops.mkldnn._linear_pointwise

        def product(h, z=None, out=None):  # noqa: ARG001 (oneDNN allocates its result)
            if z is None:
                return linear(h, weights, None, "none", [], "")
            return linear.binary(h, z, weights, None, "add")

        return product
    W = W.contiguous() if num_calls > 1 else W

    def product(h, z=None, out=None):
        return torch.mm(h, W, out=out) if z is None else torch.addmm(z, h, W, out=out)

    return product


def weight_grad(h, dz):
    """Return the gradient w.r.t. W (K, M) for the inputs h (T, B, K) and gradients dz (T, B, M)."""
    h, dz = h.flatten(0, 1), dz.flatten(0, 1)
    if should_use_onednn(h, h.shape[1] * dz.shape[1]) and len(h):
        return torch.ops.mkldnn._linear_pointwise(h.T, dz.contiguous().T, None, "none", [], "")
    return h.T @ dz


def should_use_onednn(tensor, size):
    """Return whether to use oneDNN, which is faster for large float32 matrices on AMD processors.

    `size` is the number of elements in one of the product's matrices: the weights or the result.
    """
    is_float32_on_cpu = tensor.dtype == torch.float32 and tensor.device.type == "cpu"
    return size >= 2**18 and is_float32_on_cpu and has_amd_processor()


@functools.cache
def has_amd_processor():
    """Return whether this is an AMD processor and PyTorch provides oneDNN's linear operations."""
    ops = torch.ops.mkldnn
    has_linear = hasattr(getattr(ops, "_linear_pointwise", None), "binary")
    return has_linear and hasattr(ops, "_reorder_linear_weight") and "AMD" in host.processor()
