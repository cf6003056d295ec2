"""Helpers for the measurement tools: processes, backend copies and records."""

import importlib
import itertools
import json
import re
import shutil
import sys
import time
from pathlib import Path

import msgspec

from rnn_scratch import registry
from rnn_scratch.system import host, processes

NUMBERS = itertools.count()


def spawn(function, *arguments, **environment):
    """Run a generator function in a separate process; return its value or raise its error."""
    (value,) = processes.ask(function, *arguments, timeout=7200, environment=environment)
    return value


def take_turns(functions, min_seconds, min_turns=7):
    """Call the functions in turn for at least `min_seconds`; return each function's values.

    The first turn is a warm-up; its values are discarded.
    """
    turns, start = [], time.perf_counter()
    while len(turns) < min_turns or time.perf_counter() - start < min_seconds:
        turns.append([function() for function in functions])
    return list(zip(*turns[1:]))


def copy(backend, folder):
    """Copy a backend to a package with a new name in `folder`; return the package's folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    package = Path(folder, f"changed_{next(NUMBERS)}")
    source = Path(importlib.import_module(backend.package).__file__).parent
    return Path(shutil.copytree(source, package, ignore=ignored))


def load(package):
    """Import a backend from its package folder."""
    sys.path.insert(0, str(package.parent))
    try:
        return registry.assemble(package.name, importlib.import_module(package.name))
    finally:
        sys.path.remove(str(package.parent))


def round_digits(value):
    """Round a value to four significant digits; return None for None."""
    return None if value is None else float(f"{value:.4g}")


def write(path, record):
    """Write a record and machine description as JSON, with each innermost container on one line."""
    innermost = re.compile(r"[\[{][^\[\]{}]*[\]}]")
    values = msgspec.to_builtins({**record, "machine": host.describe()})
    text = innermost.sub(lambda part: re.sub(r"\n\s*", " ", part[0]), json.dumps(values, indent=1))
    Path(path).write_text(text + "\n", encoding="utf-8")
