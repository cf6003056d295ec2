"""What tools that measure share: copies of backends to change, and how a record is written."""

import importlib
import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import msgspec

NUMBERS = itertools.count()


def rounded(number):
    """A figure with the digits that a page could print; None for None."""
    return None if number is None else float(f"{number:.4g}")


def write(path, record):
    """Write a record as JSON, each innermost list or object on one line."""
    innermost = re.compile(r"[\[{][^\[\]{}]*[\]}]")
    values = msgspec.to_builtins(record)
    text = innermost.sub(lambda each: re.sub(r"\s+", " ", each[0]), json.dumps(values, indent=1))
    Path(path).write_text(text + "\n", encoding="utf-8")


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
