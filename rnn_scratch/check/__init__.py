"""The check: every backend and every variant compared with the NumPy reference."""
