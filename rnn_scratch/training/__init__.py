"""Training: setup, schedule, the loop over minibatches, and its events. No file, no folder."""
