"""The PyTorch backend: eager, differentiated by autograd; on CPU, CUDA or MPS."""

# The machine comes first: it sets what must be set before PyTorch is imported.
from . import machine  # isort: skip
from . import cells, concise, deep, fast, scratch, workers

__all__ = ["cells", "concise", "deep", "fast", "machine", "scratch", "workers"]
