"""Run the `rnn-scratch` command with `python -m rnn_scratch`."""

import sys

if not getattr(sys.flags, "safe_path", sys.flags.isolated):
    # Python puts the current folder first on its path, so a file such as `random.py` there would
    # shadow a standard library module, and a clone would shadow the installed package.
    del sys.path[0], sys.modules["rnn_scratch"]

from rnn_scratch.cli.__main__ import start

start()
