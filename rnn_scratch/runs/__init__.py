"""Runs: training, checkpoints, the folder of a run, and inference with a trained model."""
