"""Checks that compare every variant of every backend with the NumPy reference."""
