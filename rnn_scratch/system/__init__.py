"""Operating-system helpers: child processes, safe file replacement, and signals."""
