"""A self-contained HTML page that runs a trained network."""
