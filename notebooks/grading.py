"""Grades a function that a reader has written in a notebook: which number is off, and by how much.

It is compared with the NumPy reference by the check's own rows, and alone: whatever it calls of the
other functions to write is the project's.
"""

import functools
import importlib.util
import inspect
import itertools
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rnn_scratch.check import epochs, functions, runner
from rnn_scratch.check.inputs import DTYPES, PLAIN, Piece, in_each_dtype, make_case
from rnn_scratch.check.results import Row
from rnn_scratch.contract import TRIED, Backend, Options

TO_WRITE = "your code"  # of the NotImplementedError that stands in for a body
OWN = "{} is the project's own: write yours, and run its cell and this one again."
RELU, EMBEDDING = (PLAIN._replace(**{name: TRIED[name]}) for name in ("activation", "embedding"))
# The functions to write, and what grades each: a piece of the check, in the cases that concern it.
GRADED_BY: dict[str, tuple[Piece, tuple[Options, ...]]] = {
    "encode": (functions.encode, (PLAIN, EMBEDDING)),
    "rnn": (functions.step, (PLAIN, RELU)),
    "rnn_back": (functions.gradients, (PLAIN, RELU)),
    "step": (functions.step, (PLAIN,)),
    "loss": (functions.loss, (PLAIN,)),
    "loss_back": (functions.gradients, (PLAIN,)),
    "backward": (functions.gradients, (PLAIN, EMBEDDING)),
    "predict": (epochs.predict, (PLAIN,)),
    "clip": (functions.clip, (PLAIN,)),
    "update": (functions.update, (PLAIN,)),
}
TABLES = ("CELLS", "CELLS_BACK", "OPTIMIZERS")


class _UnusableError(Exception):
    """What a function did instead of returning a result."""


def graded(installed: Backend, function: Callable) -> Callable:
    """Print how a function of a notebook compares with the reference; return the one to go on with.

    That is the function itself if it returns numbers, even others than it should. Otherwise it is
    the project's own, so that the cells below can be run in any case. `installed` is the backend.
    """
    name = function.__name__
    own = getattr(installed.scratch, name)
    if _code(function) is _code(own):  # it has taken the place of yours
        print(OWN.format(name))
        return function
    try:
        rows = list(_rows(installed, function))
        failures = [row for row in rows if not row.passed]
        numbers = not failures or failures[0].difference is not None
        result = _sentence(name, failures, len(rows))
    except _UnusableError as error:
        numbers, result = False, f"{name} {error}."
    except Exception as error:  # outside of the function: it is what the check does with its result
        purpose = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        numbers = False
        result = f"{name} does not return what it should ({runner.described(error)}). {purpose}"
    if numbers:
        print(result)
        return function
    print(f"{result}\nUntil then, the cells below use the project's own {name}.")
    return _calling(own, inspect.unwrap(function).__globals__)  # the notebook's other functions


def verdict(installed: Backend, **written: Callable) -> str:
    """The first failure in `rnn-scratch check` with these functions in place of the backend's."""
    for name, function in written.items():
        if _code(function) is _code(getattr(installed.scratch, name)):
            return OWN.format(name)
    cases, candidate = in_each_dtype(PLAIN), _with(installed, written)
    rows = runner.check(_name(installed), candidate, cases=cases, short=True)
    failure = next((row for row in rows if not row.passed), None)
    if failure is None:
        return "equal to the reference"
    return f"{failure.piece} fails ({failure.result}): {_what(failure)}"


def _rows(installed: Backend, function: Callable) -> Iterator[Row]:
    name = function.__name__
    project = vars(_with(installed, {}).scratch)
    others = {key: project[key] for key in (*GRADED_BY, *TABLES) if key in project}
    alone = _watched(_calling(function, {**inspect.unwrap(function).__globals__, **others}))
    candidate = _with(installed, {name: alone})
    piece, cases = GRADED_BY[name]
    for dtype, options in itertools.product(DTYPES, cases):
        own = options._replace(dtype=dtype)
        case = make_case(_name(installed), candidate, "scratch", own, short=True)
        yield from case.rows(piece)


def _watched(function: Callable) -> Callable:
    # An error inside the function is distinguished from a result that the check cannot use.
    @functools.wraps(function)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        try:
            result = function(*arguments, **keywords)
        except Exception as error:
            if isinstance(error, NotImplementedError) and error.args == (TO_WRITE,):
                raise _UnusableError("is not written yet") from error
            reason = f"{runner.described(error)}{_line(error, function)}"
            raise _UnusableError(f"raises {reason}") from error
        if result is None and function.__name__ != "update":  # which changes its argument
            raise _UnusableError("returns None: is there a `return` at its end?")
        return result

    return watched


def _with(installed: Backend, functions: Mapping[str, Callable]) -> Any:
    # The backend with these functions, which its other functions then call: executed once more,
    # because a function looks up the others in its own module.
    spec = installed.scratch.__spec__
    scratch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scratch)
    vars(scratch).update(functions)
    for table in TABLES:
        if hasattr(scratch, table):
            cells = getattr(scratch, table)
            cells.update({cell: functions.get(f.__name__, f) for cell, f in cells.items()})
    return types.SimpleNamespace(machine=installed.machine, scratch=scratch)


def _calling(function: Callable, names: dict[str, Any]) -> Callable:
    # The function, looking up what it calls here. A decorated one calls none of the others.
    if not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__"):
        return function
    parts = (function.__name__, function.__defaults__, function.__closure__)
    copy = types.FunctionType(function.__code__, names, *parts)
    copy.__kwdefaults__, copy.__doc__ = function.__kwdefaults__, function.__doc__
    return copy


def _sentence(name: str, failures: list[Row], number: int) -> str:
    if not failures:
        return f"{name}: equal to the reference, in {number} comparisons."
    first = failures[0]
    return (
        f"{name}: not yet equal to the reference, in {len(failures)} of {number} comparisons. "
        f"The first is {first.result!r} ({first.case}): {_what(first)}."
    )


def _what(row: Row) -> str:
    if row.difference is None:
        return row.where
    place = f"element {row.where}" if row.where.startswith("[") else row.where or "the number"
    return f"{place} is off by {row.difference:.2g}"


def _line(error: Exception, function: Callable) -> str:
    # The line of the function in which it happened, if it is known.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line for frame in frames if frame.name == function.__name__]
    return f", in `{lines[0]}`" if lines and lines[0] else ""


def _code(function: Callable) -> types.CodeType:
    code: types.CodeType = inspect.unwrap(function).__code__
    return code


def _name(installed: Backend) -> str:
    return installed.__name__.rpartition(".")[2]
