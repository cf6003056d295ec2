"""The comparison of backends: identical training runs, their timings, and reports."""
