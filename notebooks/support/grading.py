"""Grade the functions that students write in notebooks.

Functions are extracted from the notebook's cells and graded in another process, on inputs that the
notebook does not show, so that the notebook cannot change the project or the grade. Contract
functions are checked like functions in a user's file, by `rnn_scratch.check.user_file`; functions
that no backend has are tested on made-up inputs.

To grade a notebook from its file, run `python grading.py NOTEBOOK.ipynb`.
"""

import ast
import inspect
import json
import re
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import solutions

from rnn_scratch.check import user_file
from rnn_scratch.check.results import describe_error
from rnn_scratch.contract import MODULES
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.system import processes

TO_WRITE = "your code"  # message of the NotImplementedError that replaces a function's body
FILE = "your cell"  # file name displayed for the student's source
# Contract functions that can be graded.
GRADED = (
    *("encode", "rnn", "rnn_backward", "step", "loss", "loss_backward", "bptt", "predict"),
    *("clip", "sgd", "lstm", "adam"),
)
PROJECT = {function.__name__ for functions in MODULES.values() for function in functions}
PROJECT |= {*GRADED, "CELLS", "CELL_BACKWARD", "OPTIMIZERS"}  # names that the project defines
# Names that a graded function may not use, because they give access to the project's functions.
FORBIDDEN = re.compile(
    "rnn_scratch|installed|grading|solutions|deep_.*|importlib|sys|modules|inspect|gc|builtins|exec"
    "|eval|compile|globals|vars|[gs]etattr|__.*__"
)
BACKEND = re.compile(r'lesson\.start\("(\w+)"\)')
POINTS_CELL = re.compile(r"^grading\.points\('(\w+)'\)$", re.MULTILINE)
TIMEOUT = 60.0  # time limit in seconds for running a MADE_UP function
CLOCK = [0.0]  # times in seconds that a simulated clock in a child process has shown
PATH = {"PYTHONPATH": str(Path(__file__).parent)}  # child processes import this module
Grade = tuple[bool, str]  # whether a function is correct, and a message for the student


class Points(int):
    """Points for nbgrader, displayed in notebooks as a phrase."""

    def _repr_html_(self) -> str:
        return f"{int(self)} of 1 point"


POINTS: dict[str, Points] = {}  # points, keyed by the graded function's name


def graded(installed: Any, function: Callable) -> Callable:
    """Print how a function compares with the reference; return the function that later cells use.

    Return the function itself if it is correct. Otherwise, return the project's function, so that
    later cells work. `installed` is the backend.
    """
    name, namespace = function.__name__, _namespace(function)
    is_right, message = grade(installed.name, namespace.get("In", []), name)
    POINTS[name] = Points(is_right)
    print(message)
    if is_right:
        print(f"The cells below use your {name}.")
        return function
    print(f"For now, the cells below use the project's own {name}.")
    project_function = getattr(solutions, name, None) or user_file.find_function(installed, name)
    if hasattr(project_function, "__wrapped__"):  # a decorated function cannot be rebound
        return project_function
    # Rebind the project's function so that it calls the notebook's functions.
    parts = (project_function.__name__, project_function.__defaults__, project_function.__closure__)
    return types.FunctionType(project_function.__code__, namespace, *parts)


def _namespace(function: Callable) -> dict[str, Any]:
    """Return the notebook's namespace, in which IPython stores cell sources."""
    namespace: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return namespace


def points(name: str) -> Points:
    """Return 1 if the function was correct when last graded, otherwise 0."""
    return POINTS[name]


def verdict(installed: Any, **functions: Callable) -> str:
    """Return the message from grading a function against the reference named by its keyword."""
    ((name, function),) = functions.items()
    return grade(installed.name, _namespace(function).get("In", []), name, function.__name__)[1]


def grade(backend: str, cells: Sequence[str], name: str, written: str = "") -> Grade:
    """Grade the function `name` from a notebook's cells, which may call it `written` instead."""
    source = extract(cells, written or name)
    if not source:
        return False, f"{name} is not defined. Define it with `def`, and run its cell."
    if f'NotImplementedError("{TO_WRITE}")' in source:
        return False, f"{name} is not written yet."
    for node in ast.walk(ast.parse(source)):
        words = [getattr(node, field, None) for field in ("id", "attr", "module", "name")]
        for word in filter(None, words):
            if isinstance(word, str) and any(map(FORBIDDEN.fullmatch, word.split("."))):
                return False, f"{name} may not use {word}. Write the function yourself."
    source += f"\n{name} = {written}\n" if written else ""
    try:
        if name in MADE_UP:
            (message,) = processes.ask(_try, source, name, timeout=TIMEOUT, environment=PATH)
            return not message, f"{name}: {message or 'right'}."
        (result,) = user_file.check_source(source, FILE, backend, [name])
        if not result.exit_code:
            return True, f"{name}: equal to the reference, in {result.num_comparisons} comparisons."
        message = "\n".join(result.explain(FILE))
    except RNNScratchError as error:
        message = f"{name} cannot be graded: {error.problem}"
    if re.search("NameError|No module named 'lesson'", message):
        message += "\nUse the arguments: functions cannot use values that the notebook computes."
    return False, re.sub(r"(?<=your cell), line \d+| \(line \d+\)", "", message)


def extract(cells: Sequence[str], name: str) -> str:
    """Return the source of the last definition of `name` in the cells, preceded by its helpers.

    Helpers are functions, constants and imports, but not imports from the project.
    """
    sources: dict[str, str] = {}
    nodes: dict[str, ast.stmt] = {}
    for cell in cells:
        text = re.sub(r"^[%!].*$", "", cell, flags=re.MULTILINE)  # IPython commands
        try:
            statements = ast.parse(text).body
        except SyntaxError:
            continue
        for node in statements:
            for defined_name in _find_defined(node):
                first = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno)
                lines = text.splitlines()[first.lineno - 1 : node.end_lineno]
                sources[defined_name], nodes[defined_name] = "\n".join(lines), node
    if not isinstance(nodes.get(name), ast.FunctionDef):
        return ""
    needed = [name]
    for helper in needed:  # the list grows as helpers use other helpers
        parts = list(ast.walk(nodes[helper]))
        names = [node for node in parts if isinstance(node, ast.Name)]
        used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        local = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        local |= {node.arg for node in parts if isinstance(node, ast.arg)}
        needed += sorted((used & {*nodes}) - local - {*needed} - PROJECT)
    return "\n\n".join(dict.fromkeys(sources[helper] for helper in reversed(needed)))


def _find_defined(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines, excluding imports from the project."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return [name for name in names if name not in {*PROJECT, *MADE_UP}]  # graded() assigns them
    if isinstance(node, ast.Import | ast.ImportFrom):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("rnn_scratch."):
            return []
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    return []


def grade_notebook(notebook: Mapping[str, Any]) -> dict[str, Grade]:
    """Grade each function that has a points cell in a notebook, given as parsed JSON."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cells = ["".join(cell["source"]) for cell in code]
    found = BACKEND.search("\n".join(cells))
    names = [match[1] for cell in cells for match in POINTS_CELL.finditer(cell)]
    return {name: grade(found[1] if found else "numpy", cells, name) for name in names}


def _try(source: str, name: str) -> Iterator[str]:
    """Yield the first mistake in a MADE_UP function, or ""; call this only in a child process."""
    time.perf_counter = lambda: CLOCK[-1]
    namespace: dict[str, Any] = {"time": time}
    try:
        exec(source, namespace)
        yield next(MADE_UP[name](namespace[name]), "")
    except Exception as error:
        yield f"raises {describe_error(error)}"


# For each run: training and held-out losses by epoch, and a property unique to this run.
RUNS = {
    "c": ((4.0, 3.5, 3.0), (4.2, 3.8, 3.9), "highest held-out losses"),
    "e": ((3.0, 1.5, 0.5), (3.2, 2.4, 2.9), "lowest loss of the training text"),
    "b": ((3.0, 1.9, 1.5), (3.2, 2.1, 3.4), "lowest held-out loss of any epoch"),
    "f": ((2.3, 2.0, 1.8), (2.5, 2.4, 2.5), "lowest mean of the held-out losses"),
    "a": ((3.0, 2.5, 2.0), (3.3, 2.9, 2.3), "lowest held-out loss of the last epoch"),
    "g": ((3.0, 2.9, 2.8), (3.1, 2.9, 2.8), "smallest difference between the losses"),
    "d": ((3.0, 2.8, 2.7), (3.6, 3.1, 3.2), "last place in `histories`"),
}


def _best_run(best_run: Callable[..., Any]) -> Iterator[str]:
    histories = {
        name: [types.SimpleNamespace(loss=a, valid_loss=b) for a, b in zip(losses, valid_losses)]
        for name, (losses, valid_losses, _) in RUNS.items()
    }
    selected = best_run(histories)
    if selected != "b":
        reason = f", the run with the {RUNS[selected][2]}" if selected in [*RUNS] else ""
        yield f"it returns {selected!r}{reason}. Return 'b', the run with the {RUNS['b'][2]}"


def _seconds(seconds: Callable[..., Any]) -> Iterator[str]:
    durations = (1, 5, 3, 4, 9)  # seconds

    def simulate_call() -> None:
        CLOCK.append(CLOCK[-1] + durations[min(len(CLOCK), 5) - 1])

    result, num_calls = seconds(simulate_call, 4), len(CLOCK) - 1
    if num_calls != 5:
        yield f"{num_calls} calls instead of 5: one before the clock is read, and 4 with it"
    reasons: dict[float, str] = {1: "the first call, which should not be measured", 21: "their sum"}
    reasons |= {5.25: "their mean", 4.5: "their median", 9: "the longest", 3000: "milliseconds"}
    reasons |= {5: "the first: read the clock before each call", -9: "the start minus the end"}
    if result != 3:
        problem = f"{result!r} instead of 3, for a call of 1 s and then calls of 5, 3, 4 and 9 s"
        yield f"{problem}: {reasons.get(result, 'use `time.perf_counter`')}"


# Tests on made-up inputs, keyed by function name in `solutions`.
MADE_UP = {"best_run": _best_run, "seconds": _seconds}


def main(paths: Sequence[str]) -> None:
    """Print each notebook's points and the messages for the student."""
    for path in paths:
        grades = grade_notebook(json.loads(Path(path).read_text(encoding="utf-8")))
        print(f"{path}: {sum(is_right for is_right, _ in grades.values())} of {len(grades)} points")
        for _, message in grades.values():
            print(message)


if __name__ == "__main__":
    import grading  # a child process cannot find functions in `__main__`

    grading.main(sys.argv[1:])
