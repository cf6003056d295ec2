"""`python -m rnn_scratch` is the command `rnn-scratch`."""

from .cli.__main__ import start

start()
