"""A single HTML file in which a trained network runs, and its scripts and styles."""
