"""Grades a function that a reader has written in a notebook: which number is off, and why.

It is compared with the NumPy reference by the check's own rows, and alone: whatever it calls of the
other functions to write is the project's. Wrong numbers are compared with those of the mistakes in
`rnn_scratch.check.mistakes`, one at a time made in the reference. A function that no backend has is
compared on made-up inputs.
"""

import contextlib
import functools
import importlib.util
import inspect
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import solutions  # a file beside this one

from rnn_scratch import registry
from rnn_scratch.check import epochs, functions, runner
from rnn_scratch.check.inputs import DTYPES, PLAIN, Case, Piece, in_each_dtype, make_case
from rnn_scratch.check.mistakes import MISTAKES, Mistake, changed
from rnn_scratch.check.results import Computed, Row, apart, fact, swapped, worst
from rnn_scratch.contract import CELLS, OPTIMIZERS, Backend, Options
from rnn_scratch.text import books, vocabulary

TO_WRITE = "your code"  # of the NotImplementedError that stands in for a body
OWN = "{} is still the project's function. Write your own, run its cell, and then run this cell."
# The functions to write, and the piece of the check that grades each.
GRADED_BY: dict[str, Piece] = {
    "encode": functions.encode,
    "rnn": functions.cell,
    "rnn_back": functions.gradients,
    "step": functions.step,
    "loss": functions.loss,
    "loss_back": functions.gradients,
    "through_time": functions.gradients,
    "predict": epochs.predict,
    "clip": functions.clip,
    "sgd": functions.of_optimizer("sgd"),
    "lstm": functions.cell,
    "adam": functions.of_optimizer("adam"),
}
TABLES = ("CELLS", "CELLS_BACK", "OPTIMIZERS")
# What a result is whose name does not say it.
EXPLAINED = {
    "of one token": "the gradients of a text of one token",
    "with 300 characters": "with 300 entries in the vocabulary",
}
EXACT = ", on the grid"  # ends a result of exact mode: the lessons leave rounding to the project
CHANGING = ("predict", *OPTIMIZERS)  # what they do is not only what they return


class Points(int):
    """A number for nbgrader, which a notebook displays in words."""

    def _repr_html_(self) -> str:
        return f"{int(self)} of 1 point"


# The points of each function that was graded: 1 for one that this lesson can use as it should be.
POINTS: dict[str, Points] = {}


class _UnusableError(Exception):
    """What a function did instead of returning a result."""


@contextlib.contextmanager
def _replaced(names: dict[str, Any], tables: Mapping[str, Any]) -> Iterator[None]:
    # With these tables in place of those among the names.
    before = {key: names[key] for key in tables if key in names}
    names.update(tables)
    try:
        yield
    finally:
        names.update(before)


# Lessons add a reader's functions to a backend's tables. With NumPy they are the reference's.
REFERENCE = vars(registry.load("numpy").scratch)
with_reference = _replaced(REFERENCE, {key: dict(REFERENCE[key]) for key in TABLES})


@with_reference
def graded(installed: Backend, function: Callable) -> Callable:
    """Print how a function of a notebook compares with the reference; return the one to go on with.

    That is the function itself if it returns numbers, even others than it should; what is printed
    says so. Otherwise it is the project's own, so that the cells below can be run in any case.
    `installed` is the backend.
    """
    name = function.__name__
    project_function = _own(installed, name)
    POINTS[name] = Points(0)
    if _code(function) is _code(project_function):  # it has taken the place of yours
        print(OWN.format(name))
        return function
    rows: list[Row] = []
    error: Exception | None = None
    try:
        for row in _rows(installed, function):
            rows.append(row)  # those before an error count
    except Exception as each:
        error = each
    failures = [row for row in rows if not row.passed]
    usable = error is None and not (failures and failures[0].difference is None)
    if failures or error is None:
        result = _sentence(name, failures, len(rows))
        if failures and name in GRADED_BY and (mistake := _diagnosis(installed, function)):
            result += f"\nThese are the numbers of a known mistake: {mistake}."
    elif isinstance(error, _UnusableError):
        result = f"{name} {error}."
    else:  # outside of the function: it is what the check does with its result
        purpose = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        result = f"{name} does not return what it should ({runner.described(error)}). {purpose}"
    if usable:
        POINTS[name] = Points(not failures)
        which = f"{name}, although it is not right yet" if failures else name
        print(f"{result}\nThe cells below use your {which}.")
        return function
    print(f"{result}\nFor now, the cells below use the project's own {name}.")
    # It calls the notebook's other functions.
    return _calling(project_function, inspect.unwrap(function).__globals__)


def points(name: str) -> Points:
    """Return the points for nbgrader: 1 if the function was right when last graded, else 0."""
    return POINTS[name]


@with_reference
def verdict(installed: Backend, **written: Callable) -> str:
    """Check the backend with these functions in place of its own; describe the first failure."""
    for name, function in written.items():
        if _code(function) is _code(_own(installed, name)):
            return OWN.format(name)
    cell = next((name for name in written if name in CELLS), PLAIN.cell)
    cases, candidate = in_each_dtype(PLAIN._replace(cell=cell)), _with(installed, written)
    rows = runner.check(_name(installed), candidate, cases=cases, short=True)
    failure = next((row for row in rows if not row.passed), None)
    if failure is None:
        return "equal to the reference"
    return f"{failure.piece} fails ({failure.result}): {_what(failure)}"


def _rows(installed: Backend, function: Callable) -> Iterator[Row]:
    if function.__name__ in ALONE:
        yield from ALONE[function.__name__](function)
        return
    for case in _cases(installed, function, DTYPES):
        rows = case.rows(GRADED_BY[function.__name__])
        yield from (row for row in rows if not row.result.endswith(EXACT))


def _cases(installed: Backend, function: Callable, dtypes: Sequence[str]) -> Iterator[Case]:
    # What the function is tried in: the backend with it, and all others to write the project's.
    name = function.__name__
    project = vars(_with(installed, {}).scratch)
    others = {key: project[key] for key in (*GRADED_BY, *TABLES) if key in project}
    names = inspect.unwrap(function).__globals__
    alone = _calling(function, {**names, **others})
    if alone is function:  # decorated: it has the notebook's functions, but the project's tables
        alone = _among(function, {key: others[key] for key in TABLES if key in others})
    right = project.get(name) or _own(installed, name)
    candidate = _with(installed, {name: _watched(alone, right, installed.machine.array)})
    for dtype in dtypes:
        options = _options(name)._replace(dtype=dtype)
        yield make_case(_name(installed), candidate, "scratch", options, short=True)


def _options(name: str) -> Options:
    # With the cell, if the function is one.
    return PLAIN._replace(cell=name) if name in CELLS else PLAIN


def _diagnosis(installed: Backend, function: Callable) -> str:
    # The known mistake with which the reference computes the function's numbers, or "".
    piece = GRADED_BY[function.__name__]
    (case,) = _cases(installed, function, DTYPES[:1])
    try:
        numbers = _numbers(case, piece)
    except Exception:  # they cannot all be computed
        return ""
    for mistake in known(function.__name__):
        try:
            wrong = _mistaken(mistake)
            mistaken_numbers = _numbers(case._replace(name="numpy", backend=wrong), piece)
        except Exception:  # it cannot be computed here
            continue
        if _equal(mistaken_numbers, numbers):
            return mistake.name
    right = {result.name: result.value for result in _numbers(case.reference, piece)}
    if any(swapped(right[result.name], result.value) for result in numbers):
        return "axes swapped"
    return ""


def _numbers(case: Case, piece: Piece) -> list[Computed]:
    # What the piece computes.
    return [
        result._replace(value=_finite(case.as_arrays(result.value)))
        for result in piece(case)
        if isinstance(result, Computed) and not result.name.endswith(EXACT)
    ]


def _finite(value: Any) -> Any:
    # With numbers in place of NaN and infinity, which two equal mistakes have at the same places.
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_finite, value))
    return np.nan_to_num(value, nan=1e30)


def _equal(expected: list[Computed], actual: list[Computed]) -> bool:
    if [result.name for result in expected] != [result.name for result in actual]:
        return False
    for right, written in zip(expected, actual):
        difference = worst(right.value, written.value).difference
        if difference is None or difference > right.allowed:
            return False
    return True


def graded_in(function: str) -> str:
    """Return the name under which the check compares what grades this function."""
    case = make_case("numpy", registry.load("numpy"), "scratch", _options(function))
    return case.name_of(GRADED_BY[function])


def known(function: str) -> list[Mistake]:
    """Return the mistakes that are recognized in this function: what NumPy's can have."""
    piece = graded_in(function)
    return [
        mistake for mistake in MISTAKES if mistake.piece == piece and "numpy" in mistake.changes
    ]


def _mistaken(mistake: Mistake) -> Any:
    # The reference with a mistake.
    reference, changes = registry.load("numpy"), mistake.changes["numpy"]
    if mistake.file != "scratch.py":  # in a cell or an optimizer, which a table names
        function = _own(reference, mistake.piece)
        names = dict(function.__globals__)
        exec(changed(inspect.getsource(function), changes), names)
        return _with(reference, {mistake.piece: names[mistake.piece]})
    source = changed(inspect.getsource(reference.scratch), changes)
    scratch = importlib.util.module_from_spec(reference.scratch.__spec__)
    exec(compile(source, "scratch.py with a mistake", "exec"), vars(scratch))
    return types.SimpleNamespace(machine=reference.machine, scratch=scratch)


def _watched(
    function: Callable, right: Callable | None = None, array: Callable = np.asarray
) -> Callable:
    # An error inside the function is distinguished from a result that the check cannot use, and
    # from one that has not the form of what `right`, the project's own function, returns.
    @functools.wraps(function)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        try:
            result = function(*arguments, **keywords)
        except Exception as error:
            if isinstance(error, NotImplementedError) and error.args == (TO_WRITE,):
                raise _UnusableError("is not written yet") from error
            reason = f"{runner.described(error)}{_line(error, function)}"
            raise _UnusableError(f"raises {reason}") from error
        if result is None and function.__name__ not in OPTIMIZERS:  # which change an argument
            raise _UnusableError("returns None, as without a `return` at its end")
        if right and function.__name__ not in CHANGING:
            instead = _instead(result, right(*arguments, **keywords), array)
            if instead:
                raise _UnusableError(f"returns {instead}")
        return result

    return watched


def _instead(value: Any, right: Any, array: Callable, place: str = "") -> str:
    # What the first part of a result is instead of what, where their forms differ, or "".
    parts: list[tuple[Any, Any, Any]] | None = None
    if isinstance(value, dict) and isinstance(right, dict) and [*value] == [*right]:
        parts = [(name, value[name], right[name]) for name in right]
    alike = type(value) is type(right) and isinstance(value, (tuple, list))
    if alike and len(value) == len(right):
        parts = [(number, *pair) for number, pair in enumerate(zip(value, right))]
    if parts is not None:
        differences = (
            _instead(ours, theirs, array, f"{place}[{key!r}]") for key, ours, theirs in parts
        )
        return next(filter(None, differences), "")
    returned, expected = _form(value), _form(right)
    if returned == expected:
        return ""
    where = f" in `result{place}`" if place else ""
    tensors = type(value) is type(right) and hasattr(value, "shape")
    how = ", axes swapped" if tensors and swapped(array(right), array(value)) else ""
    return f"{returned} instead of {expected}{where}{how}"


def _form(value: Any) -> str:
    # What a result is made of, with the shape and the type of an array.
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(str, value))}"
    if isinstance(value, (tuple, list)):
        kind = type(value).__name__
        return f"a {kind} of {len(value)}: {', '.join(map(_form, value))}"
    if isinstance(value, (int, float)) and not hasattr(value, "shape"):
        return "a number"
    if not hasattr(value, "shape"):
        return f"a value of the type {type(value).__name__}"
    dtype = getattr(value.dtype, "name", str(value.dtype)).removeprefix("torch.")
    return f"{dtype} {tuple(value.shape)}" if len(value.shape) else f"a {dtype} array without axes"


def _with(installed: Backend, functions: Mapping[str, Callable]) -> Any:
    # The backend with these functions, which its other functions then call: executed once more,
    # because a function looks up the others in its own module. Its tables have what other files
    # have added to them.
    spec = installed.scratch.__spec__
    scratch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scratch)
    own = vars(scratch)
    own.update(functions)
    for table in TABLES:
        if table in own:
            every = getattr(installed.scratch, table) | own[table]
            own[table] = {key: functions.get(f.__name__, f) for key, f in every.items()}
    return types.SimpleNamespace(machine=installed.machine, scratch=scratch, deep=installed.deep)


def _own(installed: Backend, name: str) -> Callable:
    # The project's function of this name.
    files = (getattr(installed, file, None) for file in ("scratch", "cells", "deep"))
    own: Callable = next(getattr(f, name) for f in (*files, solutions) if hasattr(f, name))
    return own


def _calling(function: Callable, names: dict[str, Any]) -> Callable:
    # The function, looking up what it calls here. A decorated one calls none of the others.
    if not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__"):
        return function
    parts = (function.__name__, function.__defaults__, function.__closure__)
    copy = types.FunctionType(function.__code__, names, *parts)
    copy.__kwdefaults__, copy.__doc__ = function.__kwdefaults__, function.__doc__
    return copy


def _among(function: Callable, tables: Mapping[str, Any]) -> Callable:
    # The function, with these tables in place of those of its module during each call.
    return _replaced(inspect.unwrap(function).__globals__, tables)(function)


def _best_run(function: Callable) -> Iterator[Row]:
    losses = (  # of training text and of held-out text, by epoch
        ((3.0, 2.0, 1.0), (3.0, 2.4, 2.9)),
        ((3.0, 2.2, 1.5), (3.0, 2.1, 2.7)),  # the best
        ((3.0, 2.5, 2.0), (3.1, 2.6, 2.3)),
    )
    histories = [
        [types.SimpleNamespace(loss=each, valid_loss=other) for each, other in zip(*run)]
        for run in losses
    ]
    for names in ((0.0, 0.3, 0.6), (0.6, 0.0, 0.3)):
        chosen = _watched(function)(dict(zip(names, histories)))
        wrong = {names[0]: ", which has the lowest loss of the training text"}
        wrong[names[2]] = ", which has the lowest held-out loss of the last epoch, not of any"
        what = f"{chosen!r} instead of {names[1]!r}{wrong.get(chosen, '')}"
        yield fact("the chosen run", chosen == names[1], what, piece="best_run")


def _seconds(function: Callable) -> Iterator[Row]:
    clock, calls, durations = [0.0], [0], (100, 5, 3, 4)  # seconds; the first call compiles

    def timed() -> None:
        clock[0] += durations[min(calls[0], 3)]
        calls[0] += 1

    def other(name: str) -> None:
        raise AttributeError(f"measure with `time.perf_counter`, not with `time.{name}`")

    fake = types.ModuleType("time")
    vars(fake).update(perf_counter=lambda: clock[0], __getattr__=other)
    names = {**inspect.unwrap(function).__globals__, "time": fake}
    result = _watched(_calling(function, names))(timed, 3)
    what = f"{calls[0]} instead of 4, one before the clock is read and 3 with it"
    yield fact("the number of calls", calls[0] == 4, what, piece="seconds")
    wrong = {12: ", their sum", 4: ", their mean or median", 5: ", the longest", 112: ", the sum"}
    what = f"{result!r} instead of 3, for a call of 100 s and then calls of 5, 3 and 4 s"
    yield fact("the time", result == 3, what + wrong.get(result, ""), piece="seconds")


# The functions to write that are those of `solutions`, and what compares each.
ALONE = {"best_run": _best_run, "seconds": _seconds}


def _sentence(name: str, failures: list[Row], number: int) -> str:
    if not failures:
        return f"{name}: equal to the reference, in {number} comparisons."
    first = failures[0]
    case = ", ".join(filter(None, (first.case, EXPLAINED.get(first.result))))
    case = f" ({case})" if case else ""
    what = f"The first is {first.result!r}{case}: {_what(first)}."
    if first.piece != name:
        what = f"They are of `{first.piece}`, run with your `{name}`. {what}"
    return f"{name}: {len(failures)} of {number} comparisons with the reference fail. {what}"


def _what(row: Row) -> str:
    if row.difference is None:
        return row.where
    place = f"element {row.where}" if row.where.startswith("[") else row.where or "the number"
    if row.result == "tokens" and row.actual is not None and row.expected is not None:
        story = vocabulary.normalize(books.load(books.BUILT_IN).content, "chapter")
        vocab = vocabulary.build(story)
        return f"{place} is {vocab[int(row.actual)]!r} instead of {vocab[int(row.expected)]!r}"
    if row.actual is None or row.expected is None:
        return f"{place} is off by {row.difference:.2g}"
    return f"{place} is {apart(row.actual, row.expected)}"


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
