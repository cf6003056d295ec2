"""The machine: processes, files that are replaced safely, and signals."""
