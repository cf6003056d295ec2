"""Find, align and print the source code of backends."""
