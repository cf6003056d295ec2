"""Checks the arguments of the Python interface: their types, and errors that name them.

The commands have their options checked by click. In Python, numbers may be NumPy's and paths of
any kind; whatever else does not fit is an RNNScratchError before anything begins.
"""

import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..contract import RNNScratchError
from ..registry import check_threads
from ..settings import SEED, option_of, shown
from ..workers.groups import MOST_WORKERS
from .run import Run
from .training import Report

LONGEST = 10**6  # characters to generate: minutes to hours, and no framework can be interrupted

Function = TypeVar("Function", bound=Callable[..., Any])


class Kind(NamedTuple):
    """What an argument must be in words, whether a value is that, and its conversion."""

    words: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any]


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_path(value: Any) -> bool:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    return isinstance(path, str) and "\0" not in path


STRING = Kind("a string", lambda value: isinstance(value, str), str)
PATH = Kind("a path: a string or a pathlib.Path", _is_path, Path)
TRUTH = Kind("True or False", lambda value: isinstance(value, (bool, np.bool_)), bool)
REPORT = Kind(
    "a function that takes a line of text, such as print, or a rnn_scratch.runs.training.Report",
    lambda value: isinstance(value, Report) or (callable(value) and not isinstance(value, type)),
    lambda r: r,
)
KINDS = {
    **dict.fromkeys(("backend", "corpus", "model", "device", "prefix"), STRING),
    "text": PATH,
    "run": Kind(PATH.words, lambda value: isinstance(value, Run) or _is_path(value), lambda r: r),
    "eager": TRUTH,
    "report": REPORT,
    "threads": Kind("a whole number", _is_whole, int),  # of which the registry knows the range
    "workers": Kind(
        f"a whole number from 1 to {MOST_WORKERS}",
        lambda value: _is_whole(value) and 1 <= value <= MOST_WORKERS,
        int,
    ),
    "num_epochs": Kind("a whole number", _is_whole, int),  # and the settings
    "length": Kind(
        f"a whole number from 1 to {LONGEST:,}",
        lambda value: _is_whole(value) and 1 <= value <= LONGEST,
        int,
    ),
    "temperature": Kind(
        "a finite number above 0", lambda value: _is_number(value) and 0 < value < math.inf, float
    ),
    "top_k": Kind("a whole number, at least 1", lambda value: _is_whole(value) and value >= 1, int),
    **dict.fromkeys(
        ("top_p", "min_p"),
        Kind(
            "a number above 0, at most 1", lambda value: _is_number(value) and 0 < value <= 1, float
        ),
    ),
    "seed": Kind(
        "a whole number from 0 to 2**32 - 1",
        lambda value: _is_whole(value) and 0 <= value <= SEED,
        int,
    ),
    "unknown": Kind("error or skip", lambda value: value in ("error", "skip"), str),
}


def checked(function: Function) -> Function:
    """The function, with arguments of these names checked and converted before it is called.

    None is allowed where it is the default. Other keyword arguments are settings, which are checked
    elsewhere; for a function without any they are an error.
    """
    parameters = inspect.signature(function).parameters
    takes_settings = any(each.kind == each.VAR_KEYWORD for each in parameters.values())

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        others = sorted(set(kwargs) - set(parameters))
        if others and not takes_settings:
            raise RNNScratchError(
                f"Unknown argument: {', '.join(others)}.\n"
                f"The arguments are: {', '.join(parameters)}."
            )
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
        settings = arguments.pop("settings", {})
        for name, value in arguments.items():
            if value is not None or parameters[name].default is not None:
                arguments[name] = argument(name, value)
        check_threads(arguments.get("threads"))
        return function(**arguments, **settings)

    return call  # type: ignore[return-value]


def argument(name: str, value: Any) -> Any:
    """The value as Python's own type; RNNScratchError, with the name, where it does not fit."""
    kind = KINDS[name]
    try:
        if kind.fits(value):
            return kind.convert(value)
    except Exception:  # of a type with an error of its own, such as an array compared with a number
        pass
    label = name if name in ("run", "report") else option_of(name)
    raise RNNScratchError(f"{label} is {shown(value)}; it must be {kind.words}.")
