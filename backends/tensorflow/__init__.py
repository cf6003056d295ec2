"""The TensorFlow backend: each minibatch one compiled graph; on CPU or CUDA."""

# The machine comes first: it sets what must be set before TensorFlow is imported.
from . import machine  # isort: skip
from . import cells, concise, deep, fast, scratch, workers

__all__ = ["cells", "concise", "deep", "fast", "machine", "scratch", "workers"]
