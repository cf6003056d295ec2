"""The check, which compares every variant of every backend with the NumPy reference."""
