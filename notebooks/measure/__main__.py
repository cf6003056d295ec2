"""Run a tool by name: `PYTHONPATH=notebooks python -m measure NAME [FILE ...]`.

A tool is imported, not run as a script, because most tools run some of their functions in
other processes, which must be able to import the tool's module by name.
"""

import importlib
import sys

name, *arguments = sys.argv[1:]
importlib.import_module(f"measure.{name}").main(*arguments)
