"""Entry point for `python -m rnn_scratch`, equivalent to the `rnn-scratch` command."""

import sys

if not getattr(sys.flags, "safe_path", sys.flags.isolated):
    # Python puts the current folder first on `sys.path`, so a `random.py` there would shadow a
    # standard library module, and a clone would shadow the installed package.
    del sys.path[0], sys.modules["rnn_scratch"]

from rnn_scratch.cli.__main__ import start

start()
