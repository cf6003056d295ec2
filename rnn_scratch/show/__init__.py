"""Find, align and print the source of the backends."""
