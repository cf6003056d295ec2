"""Builds the notebooks, the site and the README from the chapter and the records; not installed."""
