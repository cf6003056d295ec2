"""A network to play with: one HTML file that computes it, and its scripts and style."""
