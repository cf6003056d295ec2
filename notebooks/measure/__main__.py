"""Runs a tool by its name: `PYTHONPATH=notebooks python -m measure NAME [FILE ...]`.

Not the tool's file itself: other processes call the functions of most tools, and import their
modules for that.
"""

import importlib
import sys

name, *arguments = sys.argv[1:]
importlib.import_module(f"measure.{name}").main(*arguments)
