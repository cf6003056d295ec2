"""Training with several workers: starting, connecting and ending the workers."""
