"""Tools that build the notebooks, the site and the README; not part of the installed package."""
