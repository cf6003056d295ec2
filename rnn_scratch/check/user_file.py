"""Compare the functions in a user's file with the reference: `rnn-scratch check FILE`.

Each function in turn replaces the backend's function of the same name. The file runs in a child
process. The student notebooks' grader also uses this code.
"""

import ast
import builtins
import contextlib
import functools
import inspect
import linecache
import os
import re
import sys
import tempfile
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..contract import CELLS, OPTIMIZERS, Backend
from ..errors import RNNScratchError
from ..system import processes
from ..system.processes import ChildError
from . import draws, functions, runner, training
from .case import Case, FunctionCheck, make_case
from .mistakes import MODULES, copy_backend, identify_mistake
from .results import Verdict, describe_error, flatten

TABLES = ("CELLS", "CELL_BACKWARD", "OPTIMIZERS")
# Each check calls the function that it compares; `gradients` and `sequence` call more functions.
# `sequence` trains the model, because compilers and autograd may reject code that runs eagerly.
CHECKS = (*functions.FUNCTIONS, training.evaluate, training.predict, training.sequence)
NUM_CASES = {training.sequence: 2}  # cases per function; other checks use 8
CALL_SECONDS = 30.0  # longest duration of a call of a user's function
TIMED_OUT = 124  # exit code of the child process after a longer call


def read_source(path: Path) -> tuple[str, str]:
    """Return a Python file's source and the backend for the framework that the file imports."""
    try:
        source = path.read_text("utf-8-sig")
        ast.parse(source, str(path))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = f"{path} is not UTF-8: {error.reason} in line {line}."
        raise RNNScratchError(problem, "Open it in an editor and save it as UTF-8.") from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RNNScratchError(f"{path} could not be read: {reason}.") from error
    imports = re.findall(r"\w+", " ".join(re.findall(r"(?m)^ *(?:import|from)\b[^#\n]*", source)))
    return source, next((name for name in registry.FRAMEWORKS if name in imports), "numpy")


def check_source(
    source: str, path: str, backend: str, names: Sequence[str] = ()
) -> Iterator[Verdict]:
    """Yield a verdict for each contract function (or each of `names`) that a file defines.

    Raises RNNScratchError if the file cannot be run or defines no such function.
    """
    started = None  # the verdict on the function that is being checked
    arguments = source, path, backend, tuple(names)
    try:
        for verdict in processes.ask(_check, *arguments, timeout=runner.TIMEOUT):
            if started is not None:
                yield verdict
            started = verdict if started is None else None
    except ChildError as error:
        reason = error.problem if error.code < 0 else f"exit code {error.code}"
        problem = f"ends the process ({reason})"
        if error.code == TIMED_OUT:
            problem = f"does not return within {CALL_SECONDS:g} s"
        if started is None:
            raise RNNScratchError(f"{path} {problem}.") from error
        started.problem = f"It {problem}. The functions below it were not checked."
        yield started


def _check(source: str, path: str, name: str, names: Sequence[str]) -> Iterator[Verdict]:
    """Yield each verdict for `check_source` twice, before and after the function is checked."""
    warnings.simplefilter("ignore")  # mistakes may cause overflow
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        backend = copy_backend(registry.start(name, 1)[0], folder)
        namespace = _execute(source, path, backend)
        defined = [n for n, v in namespace.items() if getattr(v, "__module__", "") == "user_file"]
        for name in defined:
            if name.lower() not in namespace and find_function(backend, name.lower()):
                raise RNNScratchError(f"{path} defines `{name}`.", f"Name it `{name.lower()}`.")
        candidates = [
            _Candidate(copy_backend(backend, folder), namespace, function, path)
            for function in names or defined
            if find_function(backend, function)
        ]
        candidates = [candidate for candidate in candidates if candidate.cases]
        if not candidates:
            raise RNNScratchError(
                f"{path} defines no function that can be checked.",
                f"Name functions like the project's: {', '.join(_list_checked(backend))}.",
            )
        for candidate in candidates:
            original = find_function(backend, candidate.name)
            _patch_backend(
                backend, candidate.name, candidate.function
            )  # user code may use it via tables
            yield candidate.verdict
            yield (verdict := candidate.judge(folder))
            if verdict.exit_code:  # the functions below call the project's instead
                del namespace[candidate.name]
                _patch_backend(backend, candidate.name, original)


def _execute(source: str, path: str, backend: Backend) -> dict[str, Any]:
    """Run the user's code as the module `user_file`; undefined names come from the backend."""
    items = [item for m in (backend.machine, *_modules(backend)) for item in vars(m).items()]
    project = {name: v for name, v in items if not isinstance(v, types.ModuleType)}
    namespace: dict[str, Any] = {"__name__": "user_file", "__file__": path}
    namespace["__builtins__"] = {**project, **vars(builtins)}
    sys.path.append(str(Path(path).resolve().parent))  # last: packages precede the user's modules
    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    try:
        exec(compile(source, path, "exec"), namespace)
    except (Exception, SystemExit) as error:
        raise RNNScratchError(f"{path} raises {_describe(error, path)}.") from error
    return namespace


class _Candidate:
    """A user's function, its number of calls, and the backend in which it is checked."""

    def __init__(self, backend: Backend, namespace: dict[str, Any], name: str, path: str) -> None:
        self.backend, self.name, self.path = backend, name, path
        self.function, self.num_calls, self.problem = namespace[name], 0, ""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        self.verdict = Verdict(name, getattr(code, "co_firstlineno", 0))
        cell = name.removesuffix("_backward").replace("_", "-")
        self.cells = [cell] if cell in CELLS else []
        if self.cells and cell not in backend.scratch.CELLS and f"{name}_backward" in namespace:
            _patch_backend(backend, f"{name}_backward", namespace[f"{name}_backward"])
        drawn = [draws.draw(seed, self.cells) for seed in range(3 * draws.NUM_DRAWS)]
        cases = [make_case(backend, "scratch", draw) for draw in drawn]
        self.cases = [
            (check, case)
            for check in CHECKS
            for case in [c for c in cases if _calls_function(name, check, c)][
                : NUM_CASES.get(check, 8)
            ]
        ]

    def judge(self, folder: str) -> Verdict:
        """Compare the function up to the first difference, then search for a matching mistake."""
        verdict = self.verdict
        original = find_function(self.backend, self.name)
        if problem := runner.find_signature_problem(original, self.function):
            verdict.problem = f"It has {problem}."
            return verdict
        _patch_backend(self.backend, self.name, self._guard(self.function))
        try:
            for check, case in self.cases:
                self.num_calls = 0
                for row in case.run(check):
                    verdict.num_comparisons += 1
                    if self.problem:  # the check reports the function's error as a result
                        raise RNNScratchError(self.problem)
                    if not row.passed:
                        verdict.failure, verdict.example = row, self._example(check, case)
                        others = [other for c, other in self.cases if c is check]
                        verdict.mistake = identify_mistake(
                            self.name, check, [case, *others], folder
                        )
                        return verdict
        except (Exception, SystemExit) as error:  # in the function, or code that used its result
            problem = f"Its result cannot be used: {_describe(error, self.path)}."
            verdict.problem, verdict.example = self.problem or problem, self._example(check, case)
        return verdict

    def _guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the function to detect errors and modified arguments."""

        @functools.wraps(function)
        def guarded(*arguments: Any, **kwargs: Any) -> Any:
            self.num_calls += 1
            copies = [*map(self._flatten, arguments)]
            timer = threading.Timer(CALL_SECONDS, os._exit, [TIMED_OUT])
            timer.daemon = True
            timer.start()
            try:
                result = function(*arguments, **kwargs)
            except (Exception, SystemExit) as error:
                self.problem = f"It raises {_describe(error, self.path)}."
                raise
            finally:
                timer.cancel()
            if result is None and self.name not in OPTIMIZERS:
                self.problem = "It returns None: a `return` is missing, or is not reached."
            if isinstance(result, list) and self.name != "predict":
                self.problem = "It returns a list instead of a tuple."
            names = inspect.signature(function).parameters
            mutable = ("params", "slots") if "slots" in names else ()  # updated in place or not
            for name, argument, copy in zip(names, arguments, copies):
                if name not in mutable and not np.array_equal(
                    copy, self._flatten(argument), equal_nan=True
                ):
                    self.problem = f"It changes its argument `{name}` in place."
            return result

        return guarded

    def _flatten(self, argument: Any) -> np.ndarray:
        """Copy an argument's elements (none for models and compilers' symbolic tensors)."""
        with contextlib.suppress(Exception):
            return flatten(self.cases[0][1].to_arrays(argument))
        return np.zeros(0)

    def _example(self, check: FunctionCheck, case: Case) -> str:
        """Return code that reproduces the last call's arguments, or "" after the first check."""
        if check is not self.cases[0][0] or not case.has_reference:
            return ""
        arguments = [f'"{self.backend.name}"', f'"{self.name}"', f"seed={case.draw.seed}"]
        arguments += [f"call={self.num_calls - 1}"] if self.num_calls > 1 else []
        arguments += [f'cell="{cell}"' for cell in self.cells]
        names = ", ".join(inspect.signature(find_function(self.backend, self.name)).parameters)
        call = f"{names} = find_arguments({', '.join(arguments)})"
        return f"from rnn_scratch.check.user_file import find_arguments\n{call}"


def find_arguments(backend: str, function: str, seed: int, call: int = 0, cell: str = "") -> Any:
    """Return the arguments of a function's call number `call` (from 0) in the check of a draw."""
    calls = list[tuple[Any, ...]]()
    with tempfile.TemporaryDirectory() as folder:
        candidate = copy_backend(registry.start(backend, 1)[0], folder)
    original = find_function(candidate, function)

    @functools.wraps(original)
    def record(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    _patch_backend(candidate, function, record)
    case = make_case(candidate, "scratch", draws.draw(seed, [cell] if cell else []))
    check = next(check for check in CHECKS if _calls_function(function, check, case))
    any(len(calls) > call for _ in check(case))  # runs the check up to this call
    return calls[call] if len(calls[call]) > 1 else calls[call][0]


def _modules(backend: Backend) -> list[types.ModuleType]:
    return [getattr(backend, name) for name in MODULES if getattr(backend, name)]


def find_function(backend: Backend, name: str) -> Any:
    """Return the backend's function `name`, its `rnn` if `name` is a new cell, or None."""
    found = [vars(module)[name] for module in _modules(backend) if name in vars(module)]
    is_cell = name.replace("_", "-") in CELLS
    return found[0] if found else backend.scratch.rnn if is_cell else None


def _list_checked(backend: Backend) -> list[str]:
    """Return the names of the backend's functions that can be checked."""
    cases = [make_case(backend, "scratch", draws.draw(seed)) for seed in range(draws.NUM_DRAWS)]
    items = [item for module in _modules(backend) for item in vars(module).items()]
    names = dict.fromkeys(name for name, value in items if callable(value))
    pairs = [(check, case) for check in CHECKS for case in cases]
    return [name for name in names if any(_calls_function(name, *pair) for pair in pairs)]


def _patch_backend(backend: Backend, name: str, function: Callable[..., Any]) -> None:
    """Replace the backend's function `name` wherever the backend refers to it."""
    scratch = vars(backend.scratch)
    tables = [scratch[table] for table in TABLES if table in scratch]
    for space in (*tables, *map(vars, _modules(backend))):
        for key, value in space.items():
            if callable(value) and getattr(value, "__name__", "") == name:
                space[key] = function
    if (cell := name.removesuffix("_backward").replace("_", "-")) in CELLS:
        table = "CELL_BACKWARD" if name.endswith("_backward") else "CELLS"
        scratch[table][cell] = function


def _calls_function(name: str, check: FunctionCheck, case: Case) -> bool:
    """Return whether a check calls a function in this case, directly or indirectly."""
    if check is training.sequence and case.draw.num_updates:
        return name.startswith("train") or any(_calls_function(name, c, case) for c in CHECKS[:-1])
    if check is functions.gradients:
        called = map(case.function_name, (functions.cell, functions.step, functions.forward, check))
        return name in ("bptt", "loss", *called) or name.endswith("backward")
    return name == case.function_name(check)


def _describe(error: BaseException, path: str) -> str:
    """Describe an error and the line of the user's file that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    place = f" in `{frames[-1].line}` (line {frames[-1].lineno})" if frames else ""
    return f"{describe_error(error)}{place}"  # type: ignore[arg-type]
