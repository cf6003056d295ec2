"""Texts: their sources, vocabularies and minibatches of tokens."""
