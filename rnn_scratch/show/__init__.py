"""The source of the backends: their functions found, aligned, and put beside each other."""
