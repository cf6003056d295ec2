"""Grade a function that a student wrote in a notebook.

The checks of `rnn_scratch.check` compare the function with the NumPy reference in isolation:
the student's function calls the project's versions of other functions. If values are wrong, known
mistakes are made in the reference, one at a time; a mistake that produces equal values explains the
wrong values. Functions that no backend has are tested on made-up inputs.
"""

import contextlib
import functools
import importlib.util
import inspect
import itertools
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import solutions
from mistakes import MISTAKES, Mistake, changed

from rnn_scratch import registry
from rnn_scratch.check import functions, runner, training
from rnn_scratch.check.draws import Case, Draw, FunctionCheck, make_case
from rnn_scratch.check.results import (
    CheckResult,
    Result,
    describe_error,
    format_pair,
    pass_fail_result,
)
from rnn_scratch.contract import CELLS, OPTIMIZERS, Backend, Options

TO_WRITE = "your code"  # message of the NotImplementedError that replaces a function's body
NOT_WRITTEN = (
    "{} is still the project's function. Write your own, run its cell, and then run this cell."
)
PLAIN = Options(vocab_size=11, num_hiddens=13)
DTYPES = "float64", "float32"


def predict(case: Case) -> Iterator[Result]:
    """Check `predict` as `training.predict` does, but accept a function that chooses no tokens."""
    with contextlib.suppress(ValueError):  # raised if the function chose no tokens
        yield from training.predict(case)


# Checks that grade the functions to write, keyed by function name.
GRADED_BY: dict[str, FunctionCheck] = {
    "encode": functions.encode,
    "rnn": functions.cell,
    "rnn_backward": functions.gradients,
    "step": functions.step,
    "loss": functions.loss,
    "loss_backward": functions.gradients,
    "bptt": functions.gradients,
    "predict": predict,
    "clip": functions.clip,
    "sgd": functions.optimizer_check("sgd"),
    "lstm": functions.cell,
    "adam": functions.optimizer_check("adam"),
}
TABLES = ("CELLS", "CELL_BACKWARD", "OPTIMIZERS")
CHANGING = ("predict", *OPTIMIZERS)  # functions whose side effects are also graded


class Points(int):
    """Points for nbgrader; notebooks display the number as a phrase."""

    def _repr_html_(self) -> str:
        return f"{int(self)} of 1 point"


# Points, keyed by name of the graded function: 1 if the function is right, else 0.
POINTS: dict[str, Points] = {}


class _UnusableError(Exception):
    """Raised for a function that does not return a result of the right form."""


@contextlib.contextmanager
def _replaced(namespace: dict[str, Any], tables: Mapping[str, Any]) -> Iterator[None]:
    # Replace tables in a namespace while the context is active.
    previous = {key: namespace[key] for key in tables if key in namespace}
    namespace.update(tables)
    try:
        yield
    finally:
        namespace.update(previous)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    # Suppress warnings: mistakes may cause overflow in the student's function or the reference.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


# Restore the reference's original tables: NumPy lessons add the student's functions to them.
REFERENCE = vars(registry.load("numpy").scratch)
with_reference = _replaced(REFERENCE, {key: dict(REFERENCE[key]) for key in TABLES})


@with_reference
@_without_warnings()
def graded(installed: Backend, function: Callable) -> Callable:
    """Print how a function compares with the reference; return the function that later cells use.

    Return the function itself if its results have the right form, even if values are wrong.
    Otherwise, return the project's function, so that later cells can run. `installed` is the
    backend.
    """
    name = function.__name__
    project_function = _project_function(installed, name)
    POINTS[name] = Points(0)
    if _code(function) is _code(project_function):  # returned by an earlier call
        print(NOT_WRITTEN.format(name))
        return function
    rows: list[CheckResult] = []
    error: Exception | None = None
    try:
        for row in _rows(installed, function):
            rows.append(row)  # keep the rows that precede an error
    except Exception as raised:
        error = raised
    failures = [row for row in rows if not row.passed]
    usable = error is None and not (failures and failures[0].difference is None)
    if failures or error is None:
        result = _summary(name, failures, len(rows))
        if failures and name in GRADED_BY and (mistake := _diagnose(installed, function)):
            result += f"\nThese are the numbers of a known mistake: {mistake}."
    elif isinstance(error, _UnusableError):
        result = f"{name} {error}."
    else:  # the check could not use the result
        purpose = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        result = f"{name} does not return what it should ({describe_error(error)}). {purpose}"
    if usable:
        POINTS[name] = Points(not failures)
        remark = ", although it is not right yet" if failures else ""
        print(f"{result}\nThe cells below use your {name}{remark}.")
        return function
    print(f"{result}\nFor now, the cells below use the project's own {name}.")
    # Rebind the project's function, so that it calls the notebook's functions.
    return _rebound(project_function, inspect.unwrap(function).__globals__)


def points(name: str) -> Points:
    """Return the points for nbgrader: 1 if the function was right when last graded, else 0."""
    return POINTS[name]


@with_reference
@_without_warnings()
def verdict(installed: Backend, **written: Callable) -> str:
    """Check the backend after replacing functions with `written`; describe the first failure."""
    for name, function in written.items():
        if _code(function) is _code(_project_function(installed, name)):
            return NOT_WRITTEN.format(name)
    cell = next((name for name in written if name in CELLS), PLAIN.cell)
    cases = [Draw(PLAIN._replace(cell=cell, dtype=dtype)) for dtype in DTYPES]
    completed = {}
    for name, function in written.items():
        # The check needs the optimizers of exact mode, which a notebook's tables lack.
        namespace = inspect.unwrap(function).__globals__
        tables = {
            table: getattr(installed.scratch, table) | namespace[table]
            for table in TABLES
            if table in namespace
        }
        completed[name] = _with_tables(function, tables)
    candidate = _backend_with(installed, completed)
    rows = runner.check(_name(installed), candidate, cases=cases)
    failure = next((row for row in rows if not row.passed), None)
    if failure is None:
        return "equal to the reference"
    return f"{failure.function} fails ({failure.output}): {_describe_failure(failure)}"


def _rows(installed: Backend, function: Callable) -> Iterator[CheckResult]:
    if function.__name__ in MADE_UP:
        yield from MADE_UP[function.__name__](function)
        return
    for case in _cases(installed, function, DTYPES):
        yield from case.run(GRADED_BY[function.__name__])


def _cases(installed: Backend, function: Callable, dtypes: Sequence[str]) -> Iterator[Case]:
    # Yield cases with this function, and the project's versions of the other functions to write.
    name = function.__name__
    project = vars(_backend_with(installed, {}).scratch)
    replacements = {key: project[key] for key in (*GRADED_BY, *TABLES) if key in project}
    isolated = _rebound(function, {**inspect.unwrap(function).__globals__, **replacements})
    if isolated is function:  # a decorated function cannot be rebound
        tables = {key: replacements[key] for key in TABLES if key in replacements}
        isolated = _with_tables(function, tables)
    expected = project.get(name) or _project_function(installed, name)
    guarded = _guarded(isolated, expected, installed.machine.array)
    candidate = _backend_with(installed, {name: guarded})
    for dtype in dtypes:
        for options in _options(name):
            draw = Draw(options._replace(dtype=dtype))
            yield make_case(_name(installed), candidate, "scratch", draw)


def _options(name: str) -> tuple[Options, ...]:
    # Grade a cell in a network with that cell, and `step` in two networks with different cells.
    if name in CELLS:
        return (PLAIN._replace(cell=name),)
    return (PLAIN, PLAIN._replace(cell="gru")) if name == "step" else (PLAIN,)


def _diagnose(installed: Backend, function: Callable) -> str:
    # Return the name of the mistake that reproduces the function's values, or "" if none does.
    check = GRADED_BY[function.__name__]
    cases = list(_cases(installed, function, DTYPES[:1]))
    try:
        results_by_case = [_numbers(case, check) for case in cases]
    except Exception:  # a result is missing
        return ""
    for mistake in recognized_mistakes(function.__name__):
        try:
            backend = _reference_with(mistake)
            mistaken = [
                _numbers(case._replace(name="numpy", backend=backend), check) for case in cases
            ]
        except Exception:  # the mistake makes the computation fail
            continue
        if all(map(_equal, mistaken, results_by_case)):
            return mistake.name
    for case, results in zip(cases, results_by_case):
        expected = {result.name: result.value for result in _numbers(case.reference, check)}
        if any(has_swapped_axes(expected[result.name], result.value) for result in results):
            return "axes swapped"
    return ""


def has_swapped_axes(expected: Any, actual: Any) -> bool:
    """Return whether `actual`, or an array in it, equals `expected` only with two axes swapped."""
    if isinstance(expected, dict):
        expected, actual = tuple(expected.values()), tuple(actual.values())
    if isinstance(expected, tuple):
        return any(map(has_swapped_axes, expected, actual))
    expected, actual = np.asarray(expected), np.asarray(actual)
    if "U" in (expected.dtype.kind, actual.dtype.kind):  # a string has no axes
        return False

    def equal(array: np.ndarray) -> bool:
        return array.shape == expected.shape and np.allclose(array, expected, 1e-4, 1e-7)

    pairs = itertools.combinations(range(actual.ndim), 2)
    return not equal(actual) and any(equal(np.swapaxes(actual, *pair)) for pair in pairs)


def _numbers(case: Case, check: FunctionCheck) -> list[Result]:
    return [
        result._replace(value=_finite(case.to_arrays(result.value)))
        for result in check(case)
        if isinstance(result, Result)
    ]


def _finite(value: Any) -> Any:
    # Replace NaN and infinity with finite numbers, so that equal results compare as equal.
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_finite, value))
    return np.nan_to_num(value, nan=1e30)


def _equal(expected: list[Result], actual: list[Result]) -> bool:
    names = [[result.name for result in results] for results in (expected, actual)]
    return names[0] == names[1] and all(
        _close(reference.value, written.value, reference.tolerance)
        for reference, written in zip(expected, actual)
    )


def _close(expected: Any, written: Any, tolerance: float) -> bool:
    # Also use a relative tolerance, because some mistakes make values large.
    if isinstance(expected, dict):
        expected, written = tuple(expected.values()), tuple(written.values())
    if isinstance(expected, tuple):
        return all(_close(*pair, tolerance) for pair in zip(expected, written))
    same_shape = np.shape(expected) == np.shape(written)
    if "U" in (np.asarray(written).dtype.kind, np.asarray(expected).dtype.kind):
        return same_shape and bool(np.all(np.asarray(written) == np.asarray(expected)))
    return same_shape and np.allclose(written, expected, rtol=10 * tolerance, atol=tolerance)


def checked_function(function: str) -> str:
    """Return the name of the contract function whose results are compared to grade `function`."""
    draw = Draw(_options(function)[0])
    case = make_case("numpy", registry.load("numpy"), "scratch", draw)
    return case.function_name(GRADED_BY[function])


def recognized_mistakes(function: str) -> list[Mistake]:
    """Return the known mistakes that grading recognizes in this function."""
    checked = checked_function(function)
    return [
        mistake
        for mistake in MISTAKES
        if mistake.function == checked and "numpy" in mistake.changes
    ]


def _reference_with(mistake: Mistake) -> Any:
    # Return a copy of the reference that makes this mistake.
    reference, changes = registry.load("numpy"), mistake.changes["numpy"]
    if mistake.file != "scratch.py":  # the function is called through a table
        function = _project_function(reference, mistake.function)
        namespace = dict(function.__globals__)
        exec(changed(inspect.getsource(function), changes), namespace)
        return _backend_with(reference, {mistake.function: namespace[mistake.function]})
    source = changed(inspect.getsource(reference.scratch), changes)
    scratch = importlib.util.module_from_spec(reference.scratch.__spec__)
    exec(compile(source, "scratch.py with a mistake", "exec"), vars(scratch))
    _complete_tables(scratch, reference)
    return types.SimpleNamespace(machine=reference.machine, scratch=scratch)


def _complete_tables(scratch: types.ModuleType, installed: Backend) -> None:
    # Add the cells and optimizers that the backend's other files define.
    for table in TABLES:
        if hasattr(scratch, table):
            setattr(scratch, table, getattr(installed.scratch, table) | getattr(scratch, table))


def _guarded(
    function: Callable, project_function: Callable | None = None, array: Callable = np.asarray
) -> Callable:
    # Wrap `function`; the wrapper raises _UnusableError if `function` raises an error, or if the
    # form of its result differs from the form of the project function's result.
    @functools.wraps(function)
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        try:
            result = function(*arguments, **keywords)
        except Exception as error:
            if isinstance(error, NotImplementedError) and error.args == (TO_WRITE,):
                raise _UnusableError("is not written yet") from error
            reason = f"{describe_error(error)}{_line(error, function)}"
            raise _UnusableError(f"raises {reason}") from error
        if result is None and function.__name__ not in OPTIMIZERS:  # optimizers return None
            raise _UnusableError("returns None, as without a `return` at its end")
        if project_function and function.__name__ not in CHANGING:
            expected = project_function(*arguments, **keywords)
            if difference := _form_difference(result, expected, array):
                raise _UnusableError(f"returns {difference}")
        return result

    return guarded


def _form_difference(value: Any, expected: Any, array: Callable, path: str = "") -> str:
    # Describe the first part of a result whose form is wrong, or return "".
    parts: list[tuple[Any, Any, Any]] | None = None
    if isinstance(value, dict) and isinstance(expected, dict) and [*value] == [*expected]:
        parts = [(name, value[name], expected[name]) for name in expected]
    alike = type(value) is type(expected) and isinstance(value, (tuple, list))
    if alike and len(value) == len(expected):
        parts = [(index, *pair) for index, pair in enumerate(zip(value, expected))]
    if parts is not None:
        differences = (
            _form_difference(part, expected_part, array, f"{path}[{key!r}]")
            for key, part, expected_part in parts
        )
        return next(filter(None, differences), "")
    form, expected_form = _form(value), _form(expected)
    if form == expected_form:
        return ""
    location = f" in `result{path}`" if path else ""
    tensors = type(value) is type(expected) and hasattr(value, "shape")
    swapped = tensors and has_swapped_axes(array(expected), array(value))
    return f"{form} instead of {expected_form}{location}{', axes swapped' if swapped else ''}"


def _form(value: Any) -> str:
    # Describe the type of a result and, for an array, its shape and dtype.
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


def _backend_with(installed: Backend, functions: Mapping[str, Callable]) -> Any:
    # Return a copy of the backend with these functions. Execute `scratch` again, because functions
    # look each other up in the namespace of their module.
    spec = installed.scratch.__spec__
    scratch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scratch)
    vars(scratch).update(functions)
    _complete_tables(scratch, installed)
    for table in filter(vars(scratch).get, TABLES):
        entries = getattr(scratch, table)
        entries |= {key: functions.get(f.__name__, f) for key, f in entries.items()}
    modules = {name: getattr(installed, name) for name in ("machine", "deep", "exact")}
    return types.SimpleNamespace(scratch=scratch, **modules)


def _project_function(installed: Backend, name: str) -> Callable:
    files = (getattr(installed, file, None) for file in ("scratch", "cells", "deep"))
    function: Callable = next(getattr(f, name) for f in (*files, solutions) if hasattr(f, name))
    return function


def _rebound(function: Callable, namespace: dict[str, Any]) -> Callable:
    # Return a copy of the function with these globals; return a decorated function unchanged.
    if not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__"):
        return function
    parts = (function.__name__, function.__defaults__, function.__closure__)
    copy = types.FunctionType(function.__code__, namespace, *parts)
    copy.__kwdefaults__, copy.__doc__ = function.__kwdefaults__, function.__doc__
    return copy


def _with_tables(function: Callable, tables: Mapping[str, Any]) -> Callable:
    # Wrap the function so that its module has these tables during every call.
    return _replaced(inspect.unwrap(function).__globals__, tables)(function)


def _best_run(function: Callable) -> Iterator[CheckResult]:
    losses = (  # training losses and held-out losses by epoch, for each run
        ((3.0, 2.0, 1.0), (3.0, 2.4, 2.9)),
        ((3.0, 2.2, 1.5), (3.0, 2.1, 2.7)),  # the best run
        ((3.0, 2.5, 2.0), (3.1, 2.6, 2.3)),
    )
    histories = [
        [types.SimpleNamespace(loss=loss, valid_loss=valid_loss) for loss, valid_loss in zip(*run)]
        for run in losses
    ]
    for names in ((0.0, 0.3, 0.6), (0.6, 0.0, 0.3)):
        selected = _guarded(function)(dict(zip(names, histories)))
        reasons = {
            names[0]: ", which has the lowest loss of the training text",
            names[2]: ", which has the lowest held-out loss of the last epoch, not of any",
        }
        failure = f"{selected!r} instead of {names[1]!r}{reasons.get(selected, '')}"
        yield pass_fail_result("the chosen run", selected == names[1], failure, function="best_run")


def _seconds(function: Callable) -> Iterator[CheckResult]:
    clock, calls, durations = [0.0], [0], (100, 5, 3, 4)  # seconds; the first call compiles

    def timed() -> None:
        clock[0] += durations[min(calls[0], 3)]
        calls[0] += 1

    def missing(name: str) -> None:
        raise AttributeError(f"measure with `time.perf_counter`, not with `time.{name}`")

    fake = types.ModuleType("time")
    vars(fake).update(perf_counter=lambda: clock[0], __getattr__=missing)
    namespace = {**inspect.unwrap(function).__globals__, "time": fake}
    result = _guarded(_rebound(function, namespace))(timed, 3)
    failure = f"{calls[0]} instead of 4, one before the clock is read and 3 with it"
    yield pass_fail_result("the number of calls", calls[0] == 4, failure, function="seconds")
    reasons = {12: ", their sum", 4: ", their mean or median", 5: ", the longest", 112: ", the sum"}
    failure = f"{result!r} instead of 3, for a call of 100 s and then calls of 5, 3 and 4 s"
    yield pass_fail_result(
        "the time", result == 3, failure + reasons.get(result, ""), function="seconds"
    )


# Comparisons on made-up inputs, keyed by name of the function in `solutions`.
MADE_UP = {"best_run": _best_run, "seconds": _seconds}


def _summary(name: str, failures: list[CheckResult], count: int) -> str:
    if not failures:
        return f"{name}: equal to the reference, in {count} comparisons."
    first = failures[0]
    case = f" ({first.case})" if first.case else ""
    details = f"The first is {first.output!r}{case}: {_describe_failure(first)}."
    if first.function != name:
        details = f"They are of `{first.function}`, run with your `{name}`. {details}"
    return f"{name}: {len(failures)} of {count} comparisons with the reference fail. {details}"


def _describe_failure(row: CheckResult) -> str:
    if row.difference is None:
        return row.location
    element = f"element {row.location}" if row.location.startswith("[") else row.location
    if row.actual is None or row.expected is None:
        return f"{element or 'the number'} is off by {row.difference:.2g}"
    return f"{element or 'the number'} is {format_pair(row.actual, row.expected)}"


def _line(error: Exception, function: Callable) -> str:
    # Describe the line of the function that raised the error, if it is known.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line for frame in frames if frame.name == function.__name__]
    return f", in `{lines[0]}`" if lines and lines[0] else ""


def _code(function: Callable) -> types.CodeType:
    code: types.CodeType = inspect.unwrap(function).__code__
    return code


def _name(installed: Backend) -> str:
    return installed.__name__.rpartition(".")[2]
