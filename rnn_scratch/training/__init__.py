"""Training: setup, schedule, the loop over minibatches, and events. No module here writes files."""
