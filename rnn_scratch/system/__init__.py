"""The operating system: child processes, safe file replacement, and signals."""
