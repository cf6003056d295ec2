"""Text sources, vocabularies and token minibatches."""
