"""Training with several workers: how they start, meet, exchange gradients, and end."""
