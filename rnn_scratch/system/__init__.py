"""The machine: processes, files that are replaced safely, signals; and random numbers."""
