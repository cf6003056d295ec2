"""Parse the lessons' master texts and make each framework's notebook cells.

A master text is Markdown with directives:

```` ```python ````              a code cell
```` ```python torch mxnet ````  a code cell for these backends only
``::: piece encode``             a code cell with the source of a function from a backend,
                                 ``solutions`` or ``experiments``
``::: piece step without CELLS`` the function, but not ``CELLS`` and its helpers
``::: source build concise``     the source of a function from another variant, not executed
``::: core parameters.draw_parameters``  the source of a function from ``rnn_scratch``, not executed
``::: imports``                  the imports of ``scratch``
``::: imports deep``             the imports of another file, here ``deep``
``::: imports framework``        only the imports from the framework and ``machine``
``::: uses build encode``        imports of the listed functions that the backend defines
``::: bug BUG``                  a function with this bug from ``bugs.json``
``::: fix BUG``                  a diff that fixes this bug
``::: gains``                    a table of the optimizations, with their reasons and speedups
``::: optimization NAME``        the code of an optimization, not executed
``::: only torch`` ... ``:::``   content for these backends only
``::: notebook`` ... ``:::``     content for the notebooks only; ``::: site``: for the site only
``::: solution`` ... ``:::``     content that student notebooks replace with cells to fill in
``::: write encode`` ... ``:::`` a task, for student notebooks only, in the same block as the
    function's ``piece``. Student notebooks show the task, then the piece without the function's
    body (or with only its first N statements if the directive ends with "after N"), and then a cell
    that grades the function. The last paragraph of the task is a collapsible hint. The directive is
    ignored if the backend lacks the function.

The placeholders that ``prose`` defines may appear anywhere.
"""

import ast
import difflib
import functools
import inspect
import itertools
import json
import pkgutil
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rnn_scratch import registry
from rnn_scratch.check import mistakes
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.show import source_code
from rnn_scratch.show.source_code import Definition
from rnn_scratch.support import experiments, grading, solutions

from . import optimizations, prose

NOTEBOOKS = Path("notebooks")
# Bugs that students look for in the lessons. Each bug names a function and lists alternating old
# and new source strings, either per backend or for all backends.
BUGS: dict[str, Any] = json.loads(Path(__file__).with_name("bugs.json").read_text("utf-8"))
FOLDER = NOTEBOOKS / "lessons"  # one folder of notebooks per backend
LESSONS = ("build", "gates", "learn", "fast")  # reading order
# Single-line directives, and directives that open a block; a line ":::" closes the block.
LINES = ("piece", "source", "core", "imports", "uses", "bug", "fix", "gains", "optimization")
BLOCKS = ("only", "notebook", "site", "solution", "write")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
CODE, ANSWER = "# Your code.", "*Your answer:*"  # cells that replace a solution
STUDENT = "-student"  # suffix of student notebook names


@dataclass(frozen=True)
class Part:
    """A section of a master text: prose, code, or a directive with its content."""

    kind: str  # "text", "code", or a directive's name
    argument: str
    line: int
    content: list[Any]  # lines of code or prose, or nested parts


@dataclass(frozen=True)
class Code:
    """A section of code that notebooks either execute or just display."""

    source: str
    language: str = "python"
    location: str = ""  # source file and line
    runs: bool = True


class Cell(NamedTuple):
    """A notebook cell."""

    kind: str  # "markdown" or "code"
    source: str
    is_folded: bool = False  # whether the code is a solution


def notebook_path(name: str) -> Path:
    """Return a notebook's path, e.g. notebooks/lessons/torch/build.ipynb for torch-build."""
    backend, _, lesson = name.partition("-")
    return FOLDER / backend / f"{lesson}.ipynb" if lesson else NOTEBOOKS / f"{name}.ipynb"


def read_parts(lesson: str) -> list[Part]:
    """Return the parts of a lesson's master text."""
    return parse(prose.LESSONS / f"{lesson}.md")


def parse(path: Path) -> list[Part]:
    """Parse a master text; if it is invalid, raise RNNScratchError with the line number."""
    stack: list[Part] = [Part("whole", "", 0, [])]
    code: Part | None = None
    for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if code is not None:
            if line == "```":
                code = None
            else:
                code.content.append(line)
        elif line.startswith("```python"):
            code = Part("code", line[9:].strip(), line_number, [])
            stack[-1].content.append(code)
        elif line == ":::":
            if len(stack) == 1:
                raise _error(path, line_number, "::: without an open block")
            stack.pop()
        elif line.startswith(":::"):
            kind, _, argument = line[3:].strip().partition(" ")
            if kind not in (*LINES, *BLOCKS):
                kinds = ", ".join((*LINES, *BLOCKS))
                problem = f"unknown directive {kind!r}; choose one of: {kinds}"
                raise _error(path, line_number, problem)
            stack[-1].content.append(Part(kind, argument, line_number, []))
            if kind in BLOCKS:
                stack.append(stack[-1].content[-1])
        else:
            last = stack[-1].content[-1:]
            if not last or last[0].kind != "text":
                stack[-1].content.append(Part("text", "", line_number, []))
            stack[-1].content[-1].content.append(line)
    if code is not None:
        raise _error(path, code.line, "this code block is not closed")
    if len(stack) > 1:
        raise _error(path, stack[-1].line, f"the block {stack[-1].kind} is not closed")
    return stack[0].content


def cells(parts: Sequence[Part], backend: str, student: bool = False) -> list[Cell]:
    """Return the cells of a backend's notebook, or of the student notebook if `student` is true."""
    shown: set[str] = set()  # show each helper once, so that students edit the active copy
    merged: list[Cell] = []
    for cell in _cells(parts, backend, find_tasks(parts, backend) if student else None, shown):
        source = cell.source.strip("\n")
        is_prose = merged and cell.kind == merged[-1].kind == "markdown"
        # Merge adjacent prose, but keep answer cells separate.
        if source and is_prose and ANSWER not in (source, merged[-1].source):
            merged[-1] = Cell(cell.kind, f"{merged[-1].source}\n\n{source}")
        elif source:
            merged.append(cell._replace(source=source))
    return merged


def find_tasks(parts: Sequence[Part], backend: str) -> dict[str, int]:
    """Map each function that students write to the number of statements that its stub keeps."""
    num_statements: dict[str, int] = {}
    for part in parts:
        if part.kind == "write" and (name := _to_write(part, backend)):
            num_statements[name] = int(part.argument.partition(" after ")[2] or 0)
        elif part.kind == "only" and is_for_backend(part, backend):
            num_statements |= find_tasks(part.content, backend)
    return num_statements


def stub(piece: Definition, num_statements: int) -> str:
    """Return a function's source with only its docstring and first `num_statements` statements."""
    (node,) = ast.parse(piece.source).body
    assert isinstance(node, ast.FunctionDef)
    end = node.body[num_statements].end_lineno  # body[0] is the docstring
    lines = piece.source.splitlines()[:end]
    return "\n".join([*lines, f'    raise NotImplementedError("{grading.TO_WRITE}")'])


@functools.lru_cache(maxsize=1000)  # notebooks share many cells and files
def syntax(source: str) -> str:
    """Return a description of a source's syntax tree, without comments and docstrings.

    It is equal in all versions of Python, unlike that of `ast.dump`.
    """

    def describe(node: Any) -> Any:
        if isinstance(node, list):
            return list(map(describe, node))
        if not isinstance(node, ast.AST):
            return repr(node)
        fields = dict(ast.iter_fields(node))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            fields["body"] = node.body[1:]
        # Newer versions of Python add fields, which are empty in code for older versions.
        filled = {
            name: describe(value) for name, value in fields.items() if value not in (None, [])
        }
        return {type(node).__name__: filled}

    return json.dumps(describe(ast.parse(source)))


def is_for_backend(part: Part, backend: str) -> bool:
    """Return whether a part is for this backend; raise RNNScratchError for an unknown backend name.

    Return False for a task, which only student notebooks have.
    """
    if part.kind in ("code", "only"):
        backends = part.argument.split()
        if unknown := set(backends) - set(registry.BUILTIN_BACKENDS):
            names = ", ".join(sorted(unknown))
            raise RNNScratchError(f"Line {part.line}: unknown backends: {names}.")
        return not backends or backend in backends
    return part.kind != "write"


def make_code(
    part: Part, backend: str, shown: set[str], stubs: Mapping[str, int] = {}
) -> Code | None:
    """Return a part's code, or None if it has no code or `shown` contains all its functions.

    Helpers in `shown` are not repeated; new helpers are added to `shown`. For each function
    to replace with a stub, `stubs` gives the number of statements to keep. Raise RNNScratchError
    if the backend lacks a function that the text shows.
    """
    if part.kind == "code":
        return Code(prose.fill("\n".join(part.content), backend).strip("\n"))
    if part.kind == "imports":
        return Code(_imports(backend, part.argument))
    if part.kind == "uses":
        return _uses(backend, part.argument.split(), shown)
    if part.kind in ("piece", "source"):
        pieces = _pieces(backend, part.argument, shown)
        if not pieces:
            return None
        sources = [
            replace(piece, source=stub(piece, stubs[piece.name])) if piece.name in stubs else piece
            for piece in pieces
        ]
        code = source_code.join(sources)
        first = source_code.sort_definitions(pieces)[0]
        return Code(code, location=location(first), runs=part.kind == "piece")
    if part.kind == "core":
        function = pkgutil.resolve_name(f"rnn_scratch.{part.argument}")
        return Code(inspect.getsource(function).rstrip("\n"), runs=False)
    if part.kind == "optimization":
        return Code(optimizations.code(backend, part.argument), runs=False)
    if part.kind in ("bug", "fix"):
        correct, mistaken = _mistake(backend, part.argument)
        if part.kind == "bug":
            return Code(mistaken)
        lines = difflib.unified_diff(mistaken.split("\n"), correct.split("\n"), lineterm="", n=0)
        changes = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        return Code("\n".join(changes), "diff", runs=False)
    return None


def find(backend: str, name: str, model: str = "scratch") -> list[Definition]:
    """Return `name` from `solutions` or `experiments`, or a backend's function and its helpers."""
    for module in (solutions, experiments):
        function = getattr(module, name, None)
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            lines, first_line = inspect.getsourcelines(function)
            file = Path(inspect.getfile(module))
            return [Definition(name, file, first_line, "".join(lines).rstrip("\n"))]
    path = Path(solutions.__file__).with_name(f"{name}_{backend}.py")
    return (
        [source_code.cut(path, name)] if path.exists() else source_code.find(backend, name, model)
    )


def location(piece: Definition) -> str:
    """Return a piece's location: its path relative to the repository root, and its first line."""
    return f"{piece.file.relative_to(Path.cwd())}, line {piece.line}"


def _pieces(backend: str, argument: str, shown: set[str]) -> list[Definition]:
    """Return a function and its helpers; skip any named after "without" or already in `shown`."""
    function, _, hidden = argument.partition(" without ")
    name, model = (*function.split(), "scratch")[:2]
    pieces = find(backend, name, model)
    if not pieces:
        raise RNNScratchError(
            f"The text shows {name}, which {model} of the {backend} backend lacks."
        )
    omitted = {p.name for h in hidden.split() for p in source_code.find(backend, h, model)}
    if model != "scratch":
        return [piece for piece in pieces if piece.name not in omitted]
    pieces = [piece for piece in pieces if piece.name not in omitted | shown]
    shown |= {piece.name for piece in pieces}
    return pieces


def _imports(backend: str, argument: str) -> str:
    """Return a file's imports, with ``machine`` first, because it must configure the framework."""
    name = "scratch" if argument == "framework" else argument or "scratch"
    path = next(path for path in source_code.files(backend) if path.stem == name)
    nodes = source_code.tree(path).body
    lines = [ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    if argument == "framework":
        project_import = re.compile(r"from (rnn_scratch|[.](?!machine))")
        lines = [line for line in lines if not project_import.match(line)]
    text = "\n".join(sorted(lines, key=lambda line: not line.startswith("from .")))
    package = registry.find(backend)
    return text.replace("from . ", f"from {package} ").replace("from .", f"from {package}.")


def _uses(backend: str, names: Sequence[str], shown: set[str]) -> Code | None:
    """Return code that imports these functions; add them to `shown` to avoid repeating them."""
    pieces = [piece for name in names for piece in source_code.find(backend, name)[:1]]
    pieces = [piece for piece in pieces if piece.file.stem in (*optimizations.PLAIN, "machine")]
    shown |= {piece.name for piece in pieces}
    lines = []
    for file in dict.fromkeys(piece.file.stem for piece in pieces):
        imported = ", ".join(piece.name for piece in pieces if piece.file.stem == file)
        line = f"from {registry.find(backend)}.{file} import {imported}"
        if len(line) > 88:
            listed = textwrap.fill(imported, 84, initial_indent="    ", subsequent_indent="    ")
            line = f"{line.removesuffix(imported)}(\n{listed},\n)"
        lines.append(line)
    return Code("\n".join(lines)) if lines else None


def _cells(
    parts: Sequence[Part], backend: str, to_write: Mapping[str, int] | None, shown: set[str]
) -> Iterator[Cell]:
    """Yield cells; `to_write` is the result of `find_tasks`, or None for a full notebook."""
    tasks = {_to_write(part, backend): part for part in parts if part.kind == "write"}
    for part in parts:
        kind, content = part.kind, part.content
        if kind == "site" or not is_for_backend(part, backend):
            continue
        if kind == "text":
            end = "" if to_write is None else STUDENT
            text = _replace_links(prose.fill("\n".join(content), backend), backend, end)
            yield Cell("markdown", text)
        elif kind == "gains":
            yield Cell("markdown", optimizations.gains_table(backend))
        elif kind == "solution" and to_write is not None:
            if any(cell.kind == "code" for cell in _cells(content, backend, None, set(shown))):
                yield Cell("code", CODE)
            yield Cell("markdown", ANSWER)
        elif kind == "solution":
            yield from _fold(_cells(content, backend, None, shown))
        elif kind in BLOCKS:
            yield from _cells(content, backend, to_write, shown)
        name = part.argument.partition(" ")[0] if kind == "piece" and to_write is not None else ""
        if name and name in tasks:
            yield _task(name, _cells(tasks[name].content, backend, to_write, shown))
        if code := make_code(part, backend, shown, to_write or {}):
            fenced = f"```{code.language}\n{code.source}\n```"
            yield Cell("code", code.source) if code.runs else Cell("markdown", fenced)
        if name and name in tasks:
            grading_cell = f"{name} = grading.graded(installed, {name})\ngrading.points({name!r})"
            yield Cell("code", grading_cell)


def _replace_links(text: str, backend: str, end: str) -> str:
    """Replace links to pages with links to this backend's notebooks or to the site's files."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name in LESSONS:
            return f"]({name}{end}.ipynb)"
        return f"](../../site/{name}.md)"

    return re.sub(r"\]\((\w+)\.md(?:#[\w-]*)?\)", link, text)


def _to_write(part: Part, backend: str) -> str:
    """Return the name of the function in a "write" directive, or "" if the backend lacks it."""
    name = part.argument.partition(" after ")[0]
    if name not in (*grading.GRADED, *grading.MADE_UP):
        raise RNNScratchError(
            f"Line {part.line}: {grading.__name__} does not grade the function {name}."
        )
    pieces = find(backend, name)
    return (
        name
        if pieces
        and pieces[0].file.stem in (*optimizations.PLAIN, "solutions", f"{name}_{backend}")
        else ""
    )


def _task(name: str, cells: Iterator[Cell]) -> Cell:
    """Return the exercise for a function, with a collapsible hint."""
    *task, hint = "\n".join(cell.source for cell in cells).strip().split("\n\n")
    folded = f"<details>\n<summary>Hint</summary>\n\n{hint}\n\n</details>"
    return Cell("markdown", "\n\n".join([f"**Write `{name}`.**", *task, folded]))


def _fold(cells: Iterator[Cell]) -> Iterator[Cell]:
    """Fold a solution: prose with HTML, code with metadata that JupyterLab and VS Code honor."""
    for kind, group in itertools.groupby(cells, key=lambda cell: cell.kind):
        sources = [cell.source.strip("\n") for cell in group]
        text = "\n\n".join(filter(None, sources))
        if kind == "code":
            yield from (Cell(kind, source, is_folded=True) for source in sources)
        elif text:
            text = f"<details>\n<summary>Solution</summary>\n\n{text}\n\n</details>"
            yield Cell(kind, text)


def _mistake(backend: str, name: str) -> tuple[str, str]:
    """Return the correct and buggy sources of a function, both renamed to `suspect`."""
    # Rename both, because executing them would otherwise replace the notebook's function.
    if name not in BUGS:
        raise RNNScratchError(f"bugs.json has no bug {name!r}.")
    function, change = BUGS[name]["function"], BUGS[name].get(backend) or BUGS[name]["all"]
    # The bug may be in a helper, such as the cell that `step` calls.
    for piece in _pieces(backend, function, set()):
        if change[0] in piece.source:
            correct = piece.source.replace(f"def {piece.name}(", "def suspect(", 1)
            return correct, mistakes.change_source(correct, "suspect", change)
    raise RNNScratchError(f"{change[0]!r} is not in {backend}'s {function}.")


def _error(path: Path, line: int, problem: str) -> RNNScratchError:
    return RNNScratchError(f"{path}, line {line}: {problem}.")
