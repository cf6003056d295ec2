"""Training: setup, schedule, the training loop and events. These modules don't write files."""
