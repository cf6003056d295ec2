"""The MXNet backend: eager, differentiated by autograd; on CPU or CUDA."""

# The machine comes first: it sets what must be set before MXNet is imported.
from . import machine  # isort: skip
from . import concise, fast, scratch, workers

__all__ = ["concise", "fast", "machine", "scratch", "workers"]
