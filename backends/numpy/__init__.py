"""The NumPy backend, differentiated by hand: the reference for all the others."""

from . import cells, concise, deep, fast, machine, scratch, workers

__all__ = ["cells", "concise", "deep", "fast", "machine", "scratch", "workers"]
