"""The text: its sources, its vocabulary and its minibatches of tokens."""
