"""The NumPy backend, differentiated by hand: the reference for all the others."""

from . import concise, fast, machine, scratch, workers

__all__ = ["concise", "fast", "machine", "scratch", "workers"]
