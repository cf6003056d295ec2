"""Reads the master texts: four lessons, from which each framework's cells are made.

It is Markdown in which some lines are directives:

```` ```python ````              a code cell
```` ```python torch mxnet ````  a code cell for these backends only
``::: piece encode``             the source of that function of a backend, as a code cell
``::: piece step without CELLS`` the same, but without this helper and what it uses itself
``::: source build concise``     the source of that function of another variant, to read
``::: core parameters.initial``  the source of that function of ``rnn_scratch``, to read
``::: imports``                  what ``scratch`` imports
``::: imports deep``             what another file imports
``::: imports framework``        what ``scratch`` imports of the framework and of ``machine``
``::: uses build encode``        an import of those of these functions that the backend has
``::: bug MISTAKE``              a function with a mistake of ``check.mistakes`` in it
``::: fix MISTAKE``              the difference that the mistake makes
``::: gains``                    the measured gains of the optimizations, as a table
``::: only torch`` ... ``:::``   for these backends only
``::: notebook`` ... ``:::``     for the notebooks and not for the site; ``::: site`` the opposite
``::: solution`` ... ``:::``     left out of the student's copy, which has cells for an answer
``::: write encode`` ... ``:::`` for the student's copy only, below the function's piece: there its
    body is left out, except for the first N statements after the words "after N". The last
    paragraph is a hint, which unfolds, and a cell that grades the function follows. Where a backend
    does not have the function it has none of this.
``::: optimization NAME: A B`` ... ``:::``  for the backends whose ``fast`` has this optimization:
    a text, and a diff of its code against the function A or B of ``scratch`` that it replaces

The placeholders of ``prose`` may stand anywhere. A sentence that ends with ``<!--slide-->`` is on a
slide, and so is what code prints that follows ``<!--output-->``.
"""

import ast
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grading
import solutions

from rnn_scratch import registry
from rnn_scratch.check.mistakes import MISTAKES, changed
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.show import source_code
from rnn_scratch.show.source_code import Definition

from . import optimizations, prose

TEXTS = Path("notebooks")
LESSONS = ("build", "gates", "learn", "fast")  # in the order in which they are read
# Directives of one line, and those that end with a line ":::".
LINES = ("piece", "source", "core", "imports", "uses", "bug", "fix", "gains")
BLOCKS = ("only", "notebook", "site", "solution", "write", "optimization")
CODE, WORDS = "# Your code.", "*Your answer:*"  # the cells in place of a solution
STUDENT = "-student"  # what ends the name of a copy in which functions are to be written
MARKS = re.compile("<!--(?:slide|output)-->")  # what is on slides


class Part(NamedTuple):
    """A section of the master text: prose, code, or a directive with its content."""

    kind: str  # "text", "code", or the directive's name
    argument: str
    line: int
    content: list[Any]  # lines of prose, from a heading of the first rank, or code; or parts


class Code(NamedTuple):
    """A section of code, to run or only to read."""

    source: str
    language: str = "python"
    place: str = ""  # that it is from
    runs: bool = True


class Cell(NamedTuple):
    """A cell of a notebook."""

    kind: str  # "markdown" or "code"
    source: str


def text_of(lesson: str) -> list[Part]:
    """Return the parts of a lesson's master text."""
    return parse(TEXTS / "lessons" / f"{lesson}.md")


def parse(path: Path) -> list[Part]:
    """Parse a master text; raise RNNScratchError, with the line, where it makes no sense."""
    stack: list[Part] = [Part("whole", "", 0, [])]
    code: Part | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if code is not None:
            if line == "```":
                code = None
            else:
                code.content.append(line)
        elif line.startswith("```python"):
            code = Part("code", line[9:].strip(), number, [])
            stack[-1].content.append(code)
        elif line == ":::":
            if len(stack) == 1:
                raise _error(path, number, "::: ends a block, and none is open")
            stack.pop()
        elif line.startswith(":::"):
            kind, _, argument = line[3:].strip().partition(" ")
            if kind not in (*LINES, *BLOCKS):
                kinds = ", ".join((*LINES, *BLOCKS))
                raise _error(path, number, f"there is no directive {kind!r}; there are: {kinds}")
            stack[-1].content.append(Part(kind, argument, number, []))
            if kind in BLOCKS:
                stack.append(stack[-1].content[-1])
        else:
            last = stack[-1].content[-1:]
            if not last or last[0].kind != "text" or line.startswith("# "):
                stack[-1].content.append(Part("text", "", number, []))
            stack[-1].content[-1].content.append(line)
    if code is not None:
        raise _error(path, code.line, "the code that begins here does not end")
    if len(stack) > 1:
        raise _error(path, stack[-1].line, f"the block {stack[-1].kind} does not end")
    return stack[0].content


def cells(parts: Sequence[Part], backend: str, student: bool = False) -> list[Cell]:
    """Return the cells of a backend's notebook, or of the student's copy."""
    used: set[str] = set()  # a helper appears once, so that editing it has one effect
    merged: list[Cell] = []
    for kind, source in _cells(parts, backend, writes(parts, backend) if student else None, used):
        source = source.strip("\n")
        both = merged and kind == merged[-1].kind == "markdown"
        if source and both and WORDS not in (source, merged[-1].source):  # that is to be edited
            merged[-1] = Cell(kind, f"{merged[-1].source}\n\n{source}")
        elif source:
            merged.append(Cell(kind, source))
    return merged


def writes(parts: Sequence[Part], backend: str) -> dict[str, int]:
    """Return the functions that a student writes, with the number of statements that are given."""
    given: dict[str, int] = {}
    for part in parts:
        if part.kind == "write" and (name := _to_write(part, backend)):
            given[name] = int(part.argument.partition(" after ")[2] or 0)
        elif part.kind == "only" and applies(part, backend):
            given |= writes(part.content, backend)
    return given


def stub(piece: Definition, after: int) -> str:
    """Return a function without its body, except for its docstring and its first statements."""
    (node,) = ast.parse(piece.source).body
    assert isinstance(node, ast.FunctionDef)
    end = node.body[after].end_lineno  # the docstring is the first statement
    kept = piece.source.splitlines()[:end]
    return "\n".join([*kept, f'    raise NotImplementedError("{grading.TO_WRITE}")'])


def applies(part: Part, backend: str) -> bool:
    """Return whether a part is for this backend; raise RNNScratchError for an unknown backend.

    A part for the student's copy alone is for no backend.
    """
    if part.kind in ("code", "only"):
        backends = part.argument.split()
        if unknown := set(backends) - set(registry.OURS):
            raise RNNScratchError(f"Line {part.line} names {', '.join(unknown)}: not a backend.")
        return not backends or backend in backends
    if part.kind == "optimization":
        return optimization(part)[0] in optimizations.names(backend)
    return part.kind != "write" and (backend in registry.OURS or part.kind not in ("bug", "fix"))


def optimization(part: Part) -> tuple[str, list[str]]:
    """Return the name in an optimization's directive, and the functions that it may replace."""
    name, _, functions = part.argument.partition(": ")
    return name, functions.split()


def code_of(part: Part, backend: str, used: set[str], given: Mapping[str, int] = {}) -> Code | None:
    """Return the code that a part stands for; None if there is none, or none is left.

    A helper that is in `used` is not there again; what is there is added. Of the functions in
    `given` the body is left out, except for so many statements. Raises RNNScratchError where one of
    our backends does not have what the text shows.
    """
    if part.kind == "code":
        return Code(prose.fill("\n".join(part.content), backend).strip("\n"))
    if part.kind == "imports":
        imports = _imports(backend, part.argument)
        return Code(imports) if imports else None
    if part.kind == "uses":
        return _uses(backend, part.argument.split(), used)
    if part.kind in ("piece", "source"):
        pieces = _pieces(backend, part.argument, used)
        if not pieces:
            return None
        sources = [
            piece._replace(source=stub(piece, given[piece.name])) if piece.name in given else piece
            for piece in pieces
        ]
        code = source_code.join(sources)
        return Code(code, place=place(pieces[0]), runs=part.kind == "piece")
    if part.kind == "core":
        function = pkgutil.resolve_name(f"rnn_scratch.{part.argument}")
        return Code(inspect.getsource(function).rstrip("\n"), runs=False)
    if part.kind == "optimization":
        difference = optimizations.difference(backend, *optimization(part), shown=used)
        return Code(difference, "diff", runs=False)
    if part.kind in ("bug", "fix"):
        right, wrong = _mistake(backend, part.argument)
        if part.kind == "bug":
            return Code(wrong)
        difference = optimizations.diff(wrong.splitlines(), right.splitlines(), context=0)
        return Code(difference, "diff", runs=False)
    return None


def find(backend: str, name: str, model: str = "scratch") -> list[Definition]:
    """Return a function of a backend and its helpers, or one of the exercises' `solutions`."""
    if name not in grading.ALONE:
        return source_code.find(backend, name, model)
    lines, number = inspect.getsourcelines(getattr(solutions, name))
    return [Definition(name, Path(solutions.__file__), number, "".join(lines).rstrip("\n"))]


def place(piece: Definition) -> str:
    """Return a piece's file and line, relative to the clone or to another package's folder."""
    clone, package = Path.cwd(), piece.file.parent.parent
    folder = clone if piece.file.is_relative_to(clone) else package
    return f"{piece.file.relative_to(folder)}, line {piece.line}"


def _pieces(backend: str, argument: str, used: set[str]) -> list[Definition]:
    # A function and those of its helpers that are not used yet. The argument is that of the
    # directive: a function, a variant if it is not ``scratch``, and after the word "without"
    # helpers to leave out.
    shown, _, hidden = argument.partition(" without ")
    name, model = (*shown.split(), "scratch")[:2]
    pieces = find(backend, name, model)
    if not pieces and backend in registry.OURS:
        raise RNNScratchError(
            f"The text shows {name}, which {model} of the {backend} backend does not have."
        )
    left_out = {p.name for h in hidden.split() for p in source_code.find(backend, h, model)}
    if model != "scratch":
        return [piece for piece in pieces if piece.name not in left_out]
    fresh = [piece for piece in pieces if piece.name not in left_out | used]
    used |= {piece.name for piece in fresh}
    return fresh


def _imports(backend: str, which: str) -> str:
    # The neighbors first: ``machine`` sets what must be set before the framework is imported.
    name = "scratch" if which == "framework" else which or "scratch"
    # Another package may lack a file that ours have.
    paths = [path for path in source_code.files(backend) if path.stem == name]
    nodes = [node for path in paths for node in ast.parse(path.read_text(encoding="utf-8")).body]
    lines = [ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    if which == "framework":
        ours = re.compile(r"from (rnn_scratch|[.](?!machine))")
        lines = [line for line in lines if not ours.match(line)]
    text = "\n".join(sorted(lines, key=lambda line: not line.startswith("from .")))
    package = registry.find(backend)
    return text.replace("from . ", f"from {package} ").replace("from .", f"from {package}.")


def _uses(backend: str, names: Sequence[str], used: set[str]) -> Code | None:
    # They are not shown again as helpers of others.
    found = [piece for name in names for piece in source_code.find(backend, name)[:1]]
    pieces = [piece for piece in found if piece.file.stem in (*optimizations.PLAIN, "machine")]
    used |= {piece.name for piece in pieces}
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
    parts: Sequence[Part], backend: str, to_write: Mapping[str, int] | None, used: set[str]
) -> Iterator[tuple[str, str]]:
    # `to_write` is what `writes` returns, for a student's copy; None for the whole notebook.
    for part in parts:
        kind, content = part.kind, part.content
        if kind == "write" and to_write is not None and (name := _to_write(part, backend)):
            yield from _exercise(name, _cells(content, backend, to_write, used))
        if kind == "site" or not applies(part, backend):
            continue
        if kind == "text":
            end = "" if to_write is None else STUDENT
            yield "markdown", _linked(prose.fill("\n".join(content), backend), backend, end)
        elif kind == "gains":
            yield "markdown", optimizations.gains_table(backend)
        elif kind == "solution" and to_write is not None:
            if any(cell == "code" for cell, _ in _cells(content, backend, None, set(used))):
                yield "code", CODE
            yield "markdown", WORDS
        elif kind in BLOCKS:
            yield from _cells(content, backend, to_write, used)
        if code := code_of(part, backend, used, to_write or {}):
            fenced = f"```{code.language}\n{code.source}\n```"
            yield ("code", code.source) if code.runs else ("markdown", fenced)


def _linked(text: str, backend: str, end: str) -> str:
    # Links between pages, as links between the notebooks of this backend and other files.
    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name in LESSONS:
            return f"]({backend}-{name}{end}.ipynb)"
        if name == "bugs":
            return "](#Spot-the-bug)"
        return match[0] if (TEXTS / f"{name}.md").exists() else f"](site/{name}.md)"

    return re.sub(r"\]\((\w+)\.md(?:#[\w-]*)?\)", link, text)


def _to_write(part: Part, backend: str) -> str:
    # The function of a directive "write", or "" where the backend does not have it.
    name = part.argument.partition(" after ")[0]
    if name not in (*grading.GRADED_BY, *grading.ALONE):
        raise RNNScratchError(
            f"Line {part.line} names {name}, which {grading.__name__} does not grade."
        )
    pieces = find(backend, name)
    return name if pieces and pieces[0].file.stem in (*optimizations.PLAIN, "solutions") else ""


def _exercise(name: str, cells: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    # What to write, with a hint that unfolds, and the cell that grades it.
    *task, hint = "\n".join(text for _, text in cells).strip().split("\n\n")
    folded = f"<details>\n<summary>Hint</summary>\n\n{hint}\n\n</details>"
    yield "markdown", "\n\n".join([f"**Write `{name}`.**", *task, folded])
    yield "code", f"{name} = grading.graded(installed, {name})\ngrading.points({name!r})"


def _mistake(backend: str, name: str) -> tuple[str, str]:
    # The function without and with the mistake, both called `suspect`, so that neither replaces
    # the function itself.
    mistake = next((mistake for mistake in MISTAKES if mistake.name == name), None)
    if mistake is None or backend not in mistake.changes:
        raise RNNScratchError(f"rnn_scratch.check.mistakes has no mistake {name!r} for {backend}.")
    change = mistake.changes[backend]
    # The mistake may be in a helper, as that of a step may be in the cell.
    for piece in _pieces(backend, mistake.piece, set()):
        if change[0] in piece.source:
            right = piece.source.replace(f"def {piece.name}(", "def suspect(", 1)
            return right, changed(right, change)
    raise RNNScratchError(f"{change[0]!r} is not in {backend}'s {mistake.piece}.")


def _error(path: Path, line: int, what: str) -> RNNScratchError:
    return RNNScratchError(f"{path}, line {line}: {what}.")
