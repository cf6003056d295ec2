"""Compare the functions of a user's file with the reference: `rnn-scratch check FILE`.

The functions take the place of a backend's functions of the same names, one at a time. The file
runs in a child process. The grader of the student notebooks uses the same code.
"""

import ast
import builtins
import contextlib
import functools
import inspect
import itertools
import linecache
import sys
import tempfile
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
from . import draws, functions, runner, training
from .case import Case, FunctionCheck, convert_to_arrays, make_case
from .mistakes import MODULES, copy_backend, recognize
from .results import CheckResult, Verdict, describe_error, flatten, pass_fail_result

TIMEOUT = 600.0  # seconds to wait for the comparisons of one function
NUM_CASES = 8  # draws with which each function is checked
TABLES = ("CELLS", "CELL_BACKWARD", "OPTIMIZERS")
FORWARD = ("step", "forward", "deep_step", "deep_forward", "loss")  # gradients depend on them


class _UnusableError(Exception):
    """Raised if a function cannot be checked; its message gives the reason."""


class _ChangedArgumentError(Exception):
    """Raised if a function changes an argument in place."""


def read_source(path: Path) -> tuple[str, str]:
    """Return the source of a Python file, and the backend of the framework that it imports."""
    try:
        source = path.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:
        problem = f"Syntax error in {path}, line {error.lineno}: {error.msg}."
        raise RNNScratchError(problem) from error
    except (OSError, ValueError) as error:
        raise RNNScratchError(f"Could not read {path}: {describe_error(error)}.") from error
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    roots = {name.partition(".")[0] for name in names}
    return source, next((name for name in registry.FRAMEWORKS if name in roots), "numpy")


def check_source(
    source: str, path: str, backend: str, names: Sequence[str] = ()
) -> Iterator[Verdict]:
    """Yield a verdict for each function of the contract, or of `names`, that a file defines.

    Raises RNNScratchError if the file cannot be run, or if it defines no such function.
    """
    yield from processes.ask(_check, source, path, backend, tuple(names), timeout=TIMEOUT)


def _check(source: str, path: str, name: str, names: Sequence[str]) -> Iterator[Verdict]:
    # Run in a child process.
    warnings.simplefilter("ignore")  # mistakes may cause overflow
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        backend = copy_backend(registry.start(name, 1)[0], folder)
        known_cells = set(CELLS)
        namespace = _execute(source, path, backend)
        new_cells = [cell.replace("-", "_") for cell in CELLS if cell not in known_cells]
        project = [name for module in _modules(backend) for name in vars(module) if _checks(name)]
        found = [n for n in dict.fromkeys(new_cells + project) if n in (names or namespace)]
        if not found:
            raise RNNScratchError(
                f"{path} defines no function that can be checked.",
                "Name functions like the project's: rnn, step, loss, clip, adam, predict, ...",
            )
        for function in found:
            candidate = copy_backend(backend, folder)
            yield _Candidate(candidate, namespace, function, path).judge(folder)


def _execute(source: str, path: str, backend: Backend) -> dict[str, Any]:
    # Run the user's code. Names that it does not define are those of the backend.
    project = {name: v for module in _modules(backend) for name, v in vars(module).items()}
    project = {name: v for name, v in project.items() if not isinstance(v, types.ModuleType)}
    namespace: dict[str, Any] = {"__name__": "user_file", "__file__": path}
    namespace["__builtins__"] = {**project, **vars(builtins)}
    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    try:
        exec(compile(source, path, "exec"), namespace)
    except (Exception, SystemExit) as error:
        raise RNNScratchError(f"{path} raises {_describe(error, path)}.") from error
    return namespace


class _Candidate:
    """A user's function, its calls so far, and the backend in which it is compared."""

    def __init__(self, backend: Backend, namespace: dict[str, Any], name: str, path: str) -> None:
        self.backend, self.name, self.path = backend, name, path
        self.function, self.num_calls = namespace[name], 0
        cell = name.removesuffix("_backward").replace("_", "-")
        self.cells = [cell] if cell in CELLS else []
        if self.cells and cell not in backend.scratch.CELLS and f"{name}_backward" in namespace:
            _install(backend, f"{name}_backward", namespace[f"{name}_backward"])

    def judge(self, folder: str) -> Verdict:
        """Compare the function until the first difference; then search for a known mistake."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        verdict = Verdict(self.name, getattr(code, "co_firstlineno", 0))
        expected = runner.parameters(find_function(self.backend, self.name))
        actual = runner.parameters(self.function)
        if actual != expected:
            verdict.problem = f"Its signature is {self.name}{actual} instead of {expected}."
            return verdict
        _install(self.backend, self.name, self._guard(self.function))
        try:
            for check, case in self._cases():
                self.num_calls = 0
                for row in case.run(check):
                    verdict.num_comparisons += 1
                    if not row.passed:
                        verdict.failure, verdict.example = row, self._example(row)
                        others = [other for c, other in self._cases() if c is check]
                        verdict.mistake = recognize(self.name, check, [case, *others], folder)
                        return verdict
        except _ChangedArgumentError as error:
            verdict.failure = pass_fail_result("", False, str(error), self.name)
        except _UnusableError as error:
            verdict.problem = str(error)
        except Exception as error:  # the project's code cannot use the result
            problem = f"its result cannot be used: {_describe(error, self.path)}"
            verdict.failure = pass_fail_result("", False, problem, self.name)
        return verdict

    def _cases(self) -> Iterator[tuple[FunctionCheck, Case]]:
        # Yield the checks that concern the function, each with the draws that call it.
        for check in _checks(self.name):
            drawn = (draws.draw(seed, self.cells) for seed in range(3 * draws.NUM_DRAWS))
            cases = (make_case(self.backend, "scratch", draw) for draw in drawn)
            concerned = (case for case in cases if self._concerns(check, case))
            yield from ((check, case) for case in itertools.islice(concerned, NUM_CASES))

    def _concerns(self, check: FunctionCheck, case: Case) -> bool:
        if self.name in OPTIMIZERS:
            return case.draw.optimizer == self.name
        if check is training.sequence:
            return case.draw.num_updates > 0
        if self.name in FORWARD and self.name != "loss":
            return case.options.needs_deep == self.name.startswith("deep_")
        return True

    def _guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Wrap the function, so that errors and changed arguments are reported.
        names = [*inspect.signature(function).parameters]

        @functools.wraps(function)
        def guarded(*arguments: Any, **kwargs: Any) -> Any:
            self.num_calls += 1
            copies = [self._flatten(argument) for argument in arguments]
            try:
                result = function(*arguments, **kwargs)
            except Exception as error:
                raise _UnusableError(f"It raises {_describe(error, self.path)}.") from error
            if result is None and self.name not in OPTIMIZERS:
                raise _UnusableError("It returns None, as without a `return` at its end.")
            for name, argument, copy in zip(names, arguments, copies):
                if not np.array_equal(copy, self._flatten(argument), equal_nan=True):
                    raise _ChangedArgumentError(f"it changes its argument `{name}` in place")
            return result

        return guarded

    def _flatten(self, argument: Any) -> np.ndarray:
        # Copy the elements of an argument; models and a compiler's symbolic tensors have none.
        with contextlib.suppress(Exception):
            return flatten(convert_to_arrays(self.backend, argument))
        return np.zeros(0)

    def _example(self, row: CheckResult) -> str:
        # Return Python that reproduces the arguments of the call that fails.
        if not set(self.cells) <= {*registry.load("numpy").scratch.CELLS}:
            return ""  # only the user's file declares the cell
        arguments = [f'"{self.backend.name}"', f'"{row.function}"', f"seed={row.seed}"]
        if row.function == self.name and self.num_calls > 1:
            arguments.append(f"call={self.num_calls - 1}")
        arguments += [f'cell="{cell}"' for cell in self.cells]
        names = ", ".join(inspect.signature(find_function(self.backend, row.function)).parameters)
        call = f"{names} = find_arguments({', '.join(arguments)})"
        return f"from rnn_scratch.check.user_file import find_arguments\n{call}"


def find_arguments(backend: str, function: str, seed: int, call: int = 0, cell: str = "") -> Any:
    """Return the arguments of a function's call, counted from 0, in the check of a draw."""
    calls = list[tuple[Any, ...]]()
    with tempfile.TemporaryDirectory() as folder:
        candidate = copy_backend(registry.start(backend, 1)[0], folder)
    original = find_function(candidate, function)

    @functools.wraps(original)
    def record(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    _install(candidate, function, record)
    case = make_case(candidate, "scratch", draws.draw(seed, [cell] if cell else []))
    for _ in _checks(function)[0](case):
        if len(calls) > call:
            break
    return calls[call] if len(calls[call]) > 1 else calls[call][0]


def _modules(backend: Backend) -> list[types.ModuleType]:
    names = (f"{backend.package}.{module}" for module in MODULES)
    return [sys.modules[name] for name in names if name in sys.modules]


def find_function(backend: Backend, name: str) -> Any:
    """Return a function of the backend; a new cell has the signature of any cell."""
    found = [vars(module)[name] for module in _modules(backend) if name in vars(module)]
    return found[0] if found else backend.scratch.rnn


def _install(backend: Backend, name: str, function: Callable[..., Any]) -> None:
    # Put a function in the place of the backend's function of this name.
    scratch = vars(backend.scratch)
    tables = [scratch[table] for table in TABLES if table in scratch]
    for space in (*tables, *map(vars, _modules(backend))):
        for key, value in space.items():
            if callable(value) and getattr(value, "__name__", "") == name:
                space[key] = function
    if (cell := name.removesuffix("_backward").replace("_", "-")) in CELLS:
        table = "CELL_BACKWARD" if name.endswith("_backward") else "CELLS"
        scratch[table][cell] = function


def _checks(name: str) -> tuple[FunctionCheck, ...]:
    # Return the checks that concern a function; the first check calls it directly.
    checks = {check.__name__: check for check in functions.FUNCTIONS}
    checks |= {"deep_step": functions.step, "deep_forward": functions.forward}
    checks |= {"evaluate": training.evaluate, "predict": training.predict}
    checks |= dict.fromkeys(("train_minibatch", "train_epoch"), training.sequence)
    checks |= {cell.replace("-", "_"): functions.cell for cell in CELLS}
    if name.endswith("backward") or name == "bptt":
        return (functions.gradients,)
    has_gradients = name in FORWARD or checks.get(name) is functions.cell
    first = (checks[name],) if name in checks else ()
    return first + (functions.gradients,) * has_gradients


def _describe(error: BaseException, path: str) -> str:
    # Describe an error and the line of the user's file that raised it.
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    place = f" in `{frames[-1].line}` (line {frames[-1].lineno})" if frames else ""
    return f"{describe_error(error)}{place}"  # type: ignore[arg-type]
