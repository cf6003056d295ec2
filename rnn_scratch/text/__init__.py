"""The text: where it comes from, and how it becomes minibatches of tokens."""
