"""The master text read: one chapter, from which each framework's cells are made.

It is Markdown in which some lines are directives:

```` ```python ````              a code cell
```` ```python torch mxnet ````  a code cell for these backends only
``::: piece step``               the source of that piece, cut from the backend as it ships
``::: imports``                  what that source imports
``::: bug MISTAKE``              a piece with one of the mistakes of tests/tools/sabotages.py in it
``::: fix MISTAKE``              where that mistake is
``::: only torch`` ... ``:::``   what only these backends are told
``::: solution`` ... ``:::``     what the student's copy leaves out

``{backend}``, ``{framework}`` and ``{install}`` stand for the backend's name, its framework's, and
what is installed for it.
"""

import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rnn_scratch import registry
from rnn_scratch.cli import source_code
from rnn_scratch.contract import RNNScratchError

TEXTS = Path("notebooks")
SABOTAGES = Path("tests/tools/sabotages.py")
LINES = ("piece", "imports", "bug", "fix")  # directives of one line
BLOCKS = ("only", "solution")  # those that end with a line ":::"
YOURS = "# Your answer.\n"


class Part(NamedTuple):
    """A stretch of the master text: prose, code, or a directive with what is inside it."""

    kind: str  # "text", "code", or the directive's name
    argument: str
    line: int
    inside: list[Any]  # lines of prose or code; parts, in a block


class Cell(NamedTuple):
    """A cell of a notebook."""

    kind: str  # "markdown" or "code"
    source: str


def parse(path: Path) -> list[Part]:
    """The parts of a master text; RNNScratchError, with the line, where one makes no sense."""
    stack: list[Part] = [Part("whole", "", 0, [])]
    code: Part | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if code is not None:
            if line == "```":
                code = None
            else:
                code.inside.append(line)
        elif line.startswith("```python"):
            code = Part("code", line[9:].strip(), number, [])
            stack[-1].inside.append(code)
        elif line == ":::":
            if len(stack) == 1:
                raise _wrong(path, number, "::: ends a block, and none is open")
            stack.pop()
        elif line.startswith(":::"):
            kind, _, argument = line[3:].strip().partition(" ")
            if kind not in (*LINES, *BLOCKS):
                known = ", ".join((*LINES, *BLOCKS))
                raise _wrong(path, number, f"there is no directive {kind!r}; there are: {known}")
            stack[-1].inside.append(Part(kind, argument, number, []))
            if kind in BLOCKS:
                stack.append(stack[-1].inside[-1])
        else:
            last = stack[-1].inside[-1:]
            if not last or last[0].kind != "text":
                stack[-1].inside.append(Part("text", "", number, []))
            stack[-1].inside[-1].inside.append(line)
    if code is not None:
        raise _wrong(path, code.line, "the code that begins here does not end")
    if len(stack) > 1:
        raise _wrong(path, stack[-1].line, f"the block {stack[-1].kind} does not end")
    return stack[0].inside


def cells(parts: Sequence[Part], backend: str, student: bool = False) -> list[Cell]:
    """The cells that a backend's notebook has, or the student's copy of it."""
    shown: set[str] = set()  # a helper is shown once, so that editing it has one effect
    merged: list[Cell] = []
    for kind, source in _cells(parts, backend, student, shown):
        source = _filled(source.strip("\n"), backend)
        if source and kind == "markdown" and merged and merged[-1].kind == "markdown":
            merged[-1] = Cell(kind, f"{merged[-1].source}\n\n{source}")
        elif source:
            merged.append(Cell(kind, source))
    return merged


def _cells(
    parts: Sequence[Part], backend: str, student: bool, shown: set[str]
) -> Iterator[tuple[str, str]]:
    for kind, argument, line, inside in parts:
        asked = argument.split()
        if kind in ("code", "only"):
            if unknown := set(asked) - set(registry.OURS):
                raise RNNScratchError(f"Line {line} names {', '.join(unknown)}: not a backend.")
            if asked and backend not in asked:
                continue
        if kind == "text":
            yield "markdown", "\n".join(inside)
        elif kind == "code":
            yield "code", "\n".join(inside)
        elif kind == "only":
            yield from _cells(inside, backend, student, shown)
        elif kind == "solution":
            if student:
                yield "code", YOURS
            else:
                yield from _cells(inside, backend, student, shown)
        elif kind == "imports":
            yield "code", source_code.imports(backend)
        elif kind == "piece":
            found = [piece for piece in _found(backend, argument) if piece.name not in shown]
            shown |= {piece.name for piece in found}
            yield "code", source_code.joined(found)
        else:
            old, new = _mistaken(backend, argument)
            if kind == "bug":
                yield "code", new
            else:
                yield "markdown", f"```diff\n{_difference(new, old)}\n```"


def _found(backend: str, piece: str) -> list[source_code.Piece]:
    found = source_code.find(backend, piece)
    if not found:
        raise RNNScratchError(f"The text shows {piece}, which the {backend} backend does not have.")
    return found


def _mistaken(backend: str, mistake: str) -> tuple[str, str]:
    # The piece as it is and with the mistake, both called `suspect`, so that neither is mistaken
    # for the shipped one.
    sabotages = {each.mistake: each for each in runpy.run_path(str(SABOTAGES))["SABOTAGES"]}
    if mistake not in sabotages or backend not in sabotages[mistake].changes:
        raise RNNScratchError(f"{SABOTAGES} has no mistake {mistake!r} for {backend}.")
    piece = sabotages[mistake].piece
    right = wrong = _found(backend, piece)[0].source
    changes = sabotages[mistake].changes[backend]
    for old, new in zip(changes[::2], changes[1::2]):
        if old not in wrong:
            raise RNNScratchError(f"{old!r} is not in {backend}'s {piece}: see {SABOTAGES}.")
        wrong = wrong.replace(old, new, 1)
    renamed = [each.replace(f"def {piece}(", "def suspect(", 1) for each in (right, wrong)]
    return renamed[0], renamed[1]


def _difference(wrong: str, right: str) -> str:
    rows = source_code.aligned(wrong.splitlines(), right.splitlines())
    pairs = [(a, b) for a, b in rows if a != b]
    gone = [f"-{a}" for a, _ in pairs if a is not None]
    return "\n".join([*gone, *(f"+{b}" for _, b in pairs if b is not None)])


def _filled(source: str, backend: str) -> str:
    extras = "[notebooks]" if backend == "numpy" else f"[{backend},notebooks]"
    names = {"backend": backend, "framework": registry.FRAMEWORKS.get(backend, "NumPy"),
             "install": f".{extras}"}  # fmt: skip
    for name, value in names.items():
        source = source.replace(f"{{{name}}}", value)
    return source


def _wrong(path: Path, line: int, what: str) -> RNNScratchError:
    return RNNScratchError(f"{path}, line {line}: {what}.")
