"""The comparison: the same training in several backends, timed and reported."""
