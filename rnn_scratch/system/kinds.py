"""What a value must be that a user passes: numbers in a range, choices, strings, paths."""

import numbers
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SEED = 2**32 - 1  # NumPy's limit for the parts of a seed


class Kind(NamedTuple):
    """A kind of value: its description, a test for it, and a conversion to Python's own type.

    Numbers may be NumPy's; True is not a number. `convert` also converts text to the value.
    """

    words: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any]
    choices: tuple[str, ...] = ()


def integer(low: int, high: int = SEED) -> Kind:
    """Return the kind of an integer in this range."""
    highest = "2**32 - 1" if high == SEED else f"{high:,}"
    words = f"an integer from {low} to {highest}"
    return Kind(words, lambda x: _is_a(numbers.Integral, x) and low <= x <= high, int)


def number(words: str, within: Callable[[Any], Any]) -> Kind:
    """Return the kind of a real number within a range, which `words` describe."""
    return Kind(words, lambda x: _is_a(numbers.Real, x) and bool(within(x)), float)


def _is_a(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def choice(*choices: str) -> Kind:
    """Return the kind of a string that is one of these."""
    words = "one of " + ", ".join(choices)
    return Kind(words, lambda value: isinstance(value, str) and value in choices, str, choices)


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == "none")


POSITIVE = number("a finite number above 0", lambda x: 0 < x <= sys.float_info.max)
BELOW_ONE = number("a number from 0 to below 1", lambda x: 0 <= x < 1)
DROPOUT = number("a number from 0 to 0.99", lambda x: 0 <= x <= 0.99)
# Of larger ones not every weight would be finite in float32.
SIGMA = number("a number above 0, at most 1e30", lambda x: 0 < x <= 1e30)
TO_ONE = number("a number above 0, at most 1", lambda x: 0 < x <= 1)
NOT_NEGATIVE = number("a finite number, 0 or above", lambda x: 0 <= x <= sys.float_info.max)
SECONDS = number("a number of seconds above 0, at most 1,000,000", lambda x: 0 < x <= 10**6)
POSITIVE_OR_NONE = Kind(
    f"{POSITIVE.words}, or none",
    lambda value: _is_none(value) or POSITIVE.fits(value),
    lambda value: None if _is_none(value) else float(value),
)
BOOL = Kind("True or False", lambda value: isinstance(value, (bool, np.bool_)), bool)
# A record is UTF-8, which has no surrogates: they stand for bytes that are no characters.
STRING = Kind(
    "a string of characters",
    lambda value: isinstance(value, str) and value == value.encode(errors="ignore").decode(),
    str,
)
PATH = Kind("a path: a string or a pathlib.Path", lambda x: "\0" not in str(os.fspath(x)), Path)
