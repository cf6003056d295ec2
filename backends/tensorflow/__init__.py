"""The TensorFlow backend: each minibatch one compiled graph; on CPU or CUDA."""

# The machine comes first: it sets what must be set before TensorFlow is imported.
from . import machine  # isort: skip
from . import concise, fast, scratch, workers

__all__ = ["concise", "fast", "machine", "scratch", "workers"]
