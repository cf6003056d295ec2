"""Run the command `rnn-scratch` as `python -m rnn_scratch`."""

from .cli.__main__ import start

start()
