"""Grade the functions that students write in notebooks.

Functions are extracted from the notebook's cells and graded in another process, so that the
notebook cannot change the grade. They may use only the names that `allowed` lists. Contract
functions are checked like functions in a user's file, by `rnn_scratch.check.user_file`; functions
that no backend has are tested on made-up inputs, which are drawn anew for each test.

To grade a notebook from its file, run `python -m rnn_scratch.support.grading NOTEBOOK.ipynb`.
"""

import argparse
import ast
import inspect
import json
import re
import secrets
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_scratch import parameters, registry
from rnn_scratch.check import candidate, draws, source_file, user_file
from rnn_scratch.check.results import describe_error
from rnn_scratch.contract import MODULES, OPTIMIZERS, ModelConfig, UpdateRule
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.system import processes

from . import allowed, solutions, trials

TO_WRITE = "your code"  # message of the NotImplementedError that replaces a function's body
FILE = "your cell"  # file name displayed for the student's source
# Contract functions that can be graded.
GRADED = (
    *("encode", "rnn", "rnn_backward", "step", "loss", "loss_backward", "bptt", "predict"),
    *("clip", "sgd", "lstm", "adam"),
)
MADE_UP = trials.TESTS  # tests on made-up inputs, keyed by function name
REMARKED = ("predict", "sgd")  # functions that may get a remark although they are correct
# What functions return, as a hint if their result cannot be used.
RESULTS = {
    **dict.fromkeys(("rnn", "lstm"), "a tuple: the next state"),
    **dict.fromkeys(("sgd", "adam"), "two results: the parameters and the slots"),
    "step": "two results: the logits and the next state, a tuple",
    "loss": "one number, the mean over all characters, as a tensor without axes",
    "clip": "two results: the clipped gradients and the norm",
    "rnn_backward": "three results: the gradients of x, the state (a tuple) and the parameters",
    "bptt": "three results: the loss, the gradients and the state",
}
PROJECT = {function.__name__ for functions in MODULES.values() for function in functions}
PROJECT |= {*GRADED, "CELLS", "CELL_BACKWARD", "OPTIMIZERS"}  # names that the project defines

BACKEND = re.compile(rf'lesson\.start\("({"|".join(registry.BUILTIN_BACKENDS)})"\)')
POINTS_CELL = re.compile(r"^grading\.points\('(\w+)'\)$", re.MULTILINE)
TIMEOUT = 60.0  # time limit in seconds for running a function in `_try` or `_find_remarks`
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
    if name in MADE_UP:
        project_function = solutions.find(name, installed.name)
    else:
        project_function = candidate.find_function(installed, name)
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


def verdict(installed: Any, answer: str | None = None, **functions: Callable) -> str:
    """Return the message from grading a function against the reference named by its keyword.

    In a student notebook, first ask for the student's answer if it is an empty string.
    """
    if POINTS and answer is not None and not answer.strip():
        return "Write your answer between the quotes, and run this cell again to see the verdict."
    ((name, function),) = functions.items()
    return grade(installed.name, _namespace(function).get("In", []), name, function.__name__)[1]


def grade(
    backend: str, cells: Sequence[str], name: str, written: str = "", seeds: Sequence[int] = (0,)
) -> Grade:
    """Grade the function `name` from a notebook's cells, which may call it `written` instead.

    `seeds` contains the first seeds of the draws; the function is checked with each.
    """
    source = extract(cells, written or name)
    if not source:
        other = name.capitalize()
        advice = f"Rename `{other}`" if extract(cells, other) else "Define it with `def`"
        return False, f"{name} is not defined. {advice}, and run its cell."
    if f'NotImplementedError("{TO_WRITE}")' in source:
        return False, f"{name} is not written yet."
    refused = "" if written else allowed.find_refused(source, backend, name)
    if refused:
        return False, f"{name} may not use `{refused}`. {allowed.ADVICE}"
    source += f"\n{name} = {written}\n" if written else ""
    source += "" if written or name in MADE_UP else _rename_parameters(source, name)
    # A definition may fail to bind its name, or bind it too late: other names do not exist.
    free = None if written else allowed.list_free(name)
    try:
        if name in MADE_UP:
            (message,) = processes.ask(_try, source, name, backend, free, timeout=TIMEOUT)
            return not message, f"{name}: {message or 'right'}."
        for seed in seeds:
            (result,) = user_file.check_source(source, FILE, backend, [name], seed, free)
            if result.exit_code or result.form:  # later cells cannot use another form
                break
        else:
            message = f"{name}: equal to the reference, in {result.num_comparisons} comparisons."
            if name in REMARKED:
                remarks = processes.ask(_find_remarks, source, name, backend, timeout=TIMEOUT)
                message = "\n".join([message, *remarks])
            return True, message
        message = "\n".join(result.explain(FILE))
        if not result.exit_code:
            message = f"{name}: right numbers, but not in the form that the cells below use."
            message += " Keep the names of its parameters."
        if (result.form or "cannot be used" in message) and name in RESULTS:
            message += f"\nReturn {RESULTS[name]}."
        if result.failure and "dtype" in result.failure.location:
            message += "\nGive it the dtype of the parameters."
        if name in OPTIMIZERS and result.failure and result.failure.function != name:
            message += "\nIts results are right, but new tensors cannot be trained:"
            message += " change the parameters in place."
    except RNNScratchError as error:
        message = f"{name} cannot be graded: {error}"
    return False, re.sub(r"(?<=your cell), line \d+| \(line \d+\)", "", message)


def _rename_parameters(source: str, name: str) -> str:
    """Return code that gives a function's parameters the project's names, or "" if it has them.

    Later cells pass arguments by position, but `check` recognizes them by name.
    """
    found = [node for node in ast.parse(source).body if getattr(node, "name", "") == name]
    function: Any = found[-1]
    names = [argument.arg for argument in function.args.args]
    project_function = candidate.find_function(registry.load("numpy"), name)
    expected = [*inspect.signature(project_function).parameters]
    if len(names) != len(expected) or {*names} == {*expected}:
        return ""
    parameters = ", ".join(expected)
    definition = f"def {name}({parameters}):\n    return written__({parameters})"
    return f"\n\nwritten__ = {name}\n\n\n{definition}\n"  # students cannot use this name


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
        except (SyntaxError, ValueError, RecursionError, MemoryError):
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
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        return [name for name in names if name not in {*PROJECT, *MADE_UP}]  # graded() assigns them
    if isinstance(node, ast.Import | ast.ImportFrom):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("rnn_scratch."):
            return []
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    return []


def grade_notebook(notebook: Mapping[str, Any]) -> dict[str, Grade]:
    """Grade each function that has a points cell in a notebook, given as parsed JSON.

    Ignore points cells for functions that no lesson asks for, which students may have added.
    """
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cells = ["".join(cell["source"]) for cell in code]
    found = BACKEND.search("\n".join(cells))
    names = [match[1] for cell in cells for match in POINTS_CELL.finditer(cell)]
    # A table of results for the draws from seed 0 fails for the other draws, which nobody knows.
    seeds = 0, draws.NUM_DRAWS * (1 + secrets.randbelow(10**6))
    backend = found[1] if found else "numpy"
    known = {*GRADED, *MADE_UP}
    return {name: grade(backend, cells, name, seeds=seeds) for name in names if name in known}


def _try(source: str, name: str, backend: str, free: set[str] | None) -> Iterator[str]:
    """Yield the first mistake in a MADE_UP function, or ""; call this only in a child process."""
    installed, _ = registry.start(backend, threads=1)
    try:
        function = source_file.execute(source, FILE, installed, free)[name]
        yield next(MADE_UP[name](function, installed), "")
    except Exception as error:
        yield f"raises {describe_error(error)}"


def _find_remarks(source: str, name: str, backend: str) -> Iterator[str]:
    """Yield remarks on the cost of a correct function; call this only in a child process."""
    installed, _ = registry.start(backend, threads=1)
    function = source_file.execute(source, FILE, installed)[name]
    options = ModelConfig(vocab_size=3, num_hiddens=2)
    model = installed.scratch.build(parameters.draw_parameters(options, 0.1, 0), options)
    if name == "predict":
        num_read, num_tokens, has_graph, forward = 0, 20, False, model.forward

        def count(tokens: Any, *arguments: Any) -> Any:
            nonlocal num_read, has_graph
            logits, state = forward(tokens, *arguments)
            num_read += tokens.shape[1]
            has_graph |= getattr(logits, "requires_grad", False)
            return logits, state

        model.forward = count
        function(model, [0, 1], num_tokens, lambda logits: 0)
        if num_read > 2 * num_tokens:
            yield f"Remark: it reads {num_read} tokens to write {num_tokens}. Keep the state."
        if has_graph:
            yield "Remark: without `torch.no_grad()`, the graph grows with every token."
    elif backend != "jax":  # JAX's arrays cannot be changed
        before = dict(model.params)
        after, _ = function(model.params, dict(before), {}, UpdateRule())
        if any(after[parameter] is not before[parameter] for parameter in before):
            yield "Remark: it makes new tensors. In place, the update needs less memory."


def main() -> None:
    """Print each notebook's points and the messages for the student."""
    parser = argparse.ArgumentParser(
        prog="python -m rnn_scratch.support.grading",
        description="Grade the functions in student notebooks, without executing the notebooks.",
    )
    parser.add_argument("notebooks", metavar="NOTEBOOK.ipynb", nargs="+")
    for path in parser.parse_args().notebooks:
        try:
            notebook = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"{path} could not be read: {describe_error(error)}.")
            continue
        grades = grade_notebook(notebook)
        right = [name for name, (is_right, _) in grades.items() if is_right]
        print(f"{path}: {len(right)} points: {', '.join(right) or 'none'}")
        for _, message in grades.values():
            print(message)


if __name__ == "__main__":
    # A child process cannot find functions in `__main__`.
    from rnn_scratch.support import grading

    grading.main()
