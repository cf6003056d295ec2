"""Training: setup, schedule, the loop over minibatches, and its events. No module writes files."""
