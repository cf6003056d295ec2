"""Tools that build the notebooks, site and README; not part of the installed package."""
