"""Modules that the lessons import as `rnn_scratch.support`."""
