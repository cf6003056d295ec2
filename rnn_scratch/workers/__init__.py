"""Training with several workers: starting, connecting and ending them."""
