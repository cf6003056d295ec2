"""The PyTorch backend: eager, differentiated by autograd; on CPU, CUDA or MPS."""

from . import concise, fast, machine, scratch

__all__ = ["concise", "fast", "machine", "scratch"]
