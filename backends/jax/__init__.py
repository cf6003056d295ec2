"""The JAX backend: pure functions, differentiated and compiled; on CPU or CUDA."""

# The machine comes first: it sets what must be set before JAX starts.
from . import machine  # isort: skip
from . import concise, fast, scratch, workers

__all__ = ["concise", "fast", "machine", "scratch", "workers"]
