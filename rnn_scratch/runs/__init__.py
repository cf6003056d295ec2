"""Runs: training sessions, checkpoints, run folders, and inference with trained models."""
