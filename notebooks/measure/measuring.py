"""What tools that measure share: processes, copies of backends to change, and the record."""

import importlib
import itertools
import json
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import msgspec

from rnn_scratch.system import host, processes

NUMBERS = itertools.count()


def alone(function, *arguments, timeout=7200, **environment):
    """Return the one value that a generator function yields, in a process of its own."""
    (value,) = ask(function, *arguments, timeout=timeout, **environment)
    return value


def ask(function, *arguments, timeout=7200, **environment):
    """Yield the values that a generator function yields, in a process of its own."""
    calls = {"": partial(function, *arguments)}
    for _, answer in processes.ask(calls, timeout=timeout, environment=environment):
        if not isinstance(answer, processes.Exited):
            yield answer
        elif answer.error:
            raise answer.error


def copy(backend, folder):
    """Copy a backend to a package with a new name; return its folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    package = Path(folder, f"changed_{next(NUMBERS)}")
    return Path(shutil.copytree(Path(backend.__file__).parent, package, ignore=ignored))


def load(package):
    """Import a package from its folder."""
    sys.path.insert(0, str(package.parent))
    try:
        return importlib.import_module(package.name)
    finally:
        sys.path.remove(str(package.parent))


def rounded(number):
    """Round a figure to the digits that a page could print; return None for None."""
    return None if number is None else float(f"{number:.4g}")


def write(path, record):
    """Write a record and the machine as JSON, each innermost list or object on one line."""
    innermost = re.compile(r"[\[{][^\[\]{}]*[\]}]")
    values = msgspec.to_builtins({"machine": host.describe(), **record})
    text = innermost.sub(lambda part: re.sub(r"\n\s*", " ", part[0]), json.dumps(values, indent=1))
    Path(path).write_text(text + "\n", encoding="utf-8")
