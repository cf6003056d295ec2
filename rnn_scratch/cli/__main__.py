"""`python -m rnn_scratch.cli`."""

from .main import main

main()
