"""The operating system: child processes, safe replacement of files, and signals."""
