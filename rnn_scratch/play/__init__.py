"""A single HTML file that runs a trained network, with its scripts and styles."""
