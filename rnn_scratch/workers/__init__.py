"""Training with several workers: how they start, exchange gradients, and end."""
