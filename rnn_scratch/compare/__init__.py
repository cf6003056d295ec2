"""Backend comparisons: identical training runs, timings and reports."""
