"""What a tool writes of its measurements: the record, and the digits in it."""

import json
import re
from pathlib import Path

import msgspec


def rounded(number):
    """A figure with the digits that a page could print; None for None."""
    return None if number is None else float(f"{number:.4g}")


def write(path, record):
    """Write a record as JSON, each innermost list or object on one line."""
    innermost = re.compile(r"[\[{][^\[\]{}]*[\]}]")
    values = msgspec.to_builtins(record)
    text = innermost.sub(lambda each: re.sub(r"\s+", " ", each[0]), json.dumps(values, indent=1))
    Path(path).write_text(text + "\n", encoding="utf-8")
