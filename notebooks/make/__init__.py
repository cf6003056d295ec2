"""Builds the notebooks, the site and the README from the lessons and the records; not installed."""
