"""Tools that take measurements and write records, to be run by hand."""
