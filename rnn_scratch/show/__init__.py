"""Find, align and print backend source code."""
