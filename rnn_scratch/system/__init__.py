"""The operating system: processes, the machine, and files that are replaced safely."""
