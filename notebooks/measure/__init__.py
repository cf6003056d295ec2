"""Tools, to be run by hand, that take measurements and write records."""
