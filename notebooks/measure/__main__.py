"""Run a tool by name: `PYTHONPATH=notebooks python -m measure NAME [FILE ...]`.

Tools are imported rather than run as scripts, because most of them run some functions in other
processes, which must be able to import the tool's module by name.
"""

import importlib
import sys

name, *arguments = sys.argv[1:]
importlib.import_module(f"measure.{name}").main(*arguments)
