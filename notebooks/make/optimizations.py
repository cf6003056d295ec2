"""The optimizations in the backends' ``fast``: their names, their code, and what they gain.

An optimization is a comment that starts with a name and a colon, in ``fast`` or in a file beside it
that only ``fast`` uses: ``# In place: new memory costs more than the additions.`` It extends to the
end of its block. Its last line, ``# Gain: 1.05, 1.02.``, comes from the record.
"""

import ast
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from rnn_scratch.contract import MODULES
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.show import source_code
from rnn_scratch.system import host
from rnn_scratch.system.records import Record

from . import prose
from .prose import Cells

PLAIN = ("scratch", "cells", "deep")  # the files of the plain code
V = 28  # characters in the vocabulary of the lessons' text
RECORD = Path("notebooks/records/optimizations.json")
NAME = re.compile(r"( *)# (?!Gain)([A-Za-z][A-Za-z-]+(?: [a-z-]+){0,4})(?:[,(][^:]*)?: ")


class Optimization(NamedTuple):
    """One comment that names an optimization, with the code under it."""

    name: str
    function: str  # the function or class that contains it, or that follows it
    source: str


class Gain(Record):
    """What an optimization gains: the time without it relative to the time with it."""

    name: str  # as in the comment in the backend's code
    num_hiddens: dict[int, float] = {}  # by the number of hidden units
    what: Literal["training", "generation"] = "training"
    cell: str = "rnn"
    threads: int = 1
    vocabulary: int = V


class Gains(Record):
    """The record of `notebooks/measure/optimizations.py`, by backend."""

    machines: dict[str, host.Machine] = {}
    versions: dict[str, dict[str, str]] = {}
    backends: dict[str, list[Gain]] = {}


def read(path: Path = RECORD) -> Gains:
    """Read the record; return one without gains if there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=Gains) if path.exists() else Gains()


def find(backend: str) -> list[Optimization]:
    """Find the optimizations of a backend, file by file; one may be in several places."""
    try:
        paths = source_code.files(backend)
    except RNNScratchError:
        return []
    helpers = [path for path in paths if path.stem not in (*MODULES, "__init__")]
    fast = [path for path in paths if path.stem == "fast"]
    return [optimization for path in (*fast, *helpers) for optimization in _of_file(path)]


def names(backend: str) -> list[str]:
    """Return the names of a backend's optimizations, without repetition."""
    return list(dict.fromkeys(optimization.name for optimization in find(backend)))


def difference(backend: str, name: str, replaces: Sequence[str], shown: set[str]) -> str:
    """Return an optimization's code as a diff against the plain function that it replaces.

    `replaces` names functions: one of the same name as the function that contains the code comes
    first, then the first of those that the backend has. What is in `shown` is not there again; what
    is there is added.
    """
    diffs = []
    for optimization in find(backend):
        if optimization.name != name:
            continue
        candidates = [optimization.function] if optimization.function in replaces else replaces
        bodies = {function: _body(backend, function) for function in candidates}
        function = next(filter(bodies.get, bodies), "")
        old = [] if function in shown else bodies.get(function, [])
        shown.add(function)
        new = optimization.source.splitlines()
        diffs.append(diff(old, new, context=len(old)))
    return "\n\n".join(diffs)


def gains(backend: str, path: Path = RECORD) -> Cells:
    """Return the gains of a backend's optimizations as a table; empty if there are none."""
    measured = read(path).backends.get(backend)
    if not measured:
        return []
    sizes = sorted({size for gain in measured for size in gain.num_hiddens})
    head = ["optimization", *(f"gain, {size} hidden units" for size in sizes), "what was timed"]
    rows = (
        [gain.name, *(f"{gain.num_hiddens[size]:.2f}" for size in sizes), _measured(gain)]
        for gain in measured
    )
    return [head, *rows]


def gains_table(backend: str) -> str:
    """Return the table of gains in Markdown, with the machine and the versions below it."""
    record, cells = read(), gains(backend)
    if not cells:
        return ""
    machine = record.machines[backend].processor
    versions = ", ".join(f"{name} {version}" for name, version in record.versions[backend].items())
    return f"{prose.table(cells)}\n\nThe machine: {machine}; {versions}."


def _measured(gain: Gain) -> str:
    # What was timed, where it is not a training minibatch of the plain cell, with the chapter's
    # sizes and one thread.
    what = [
        gain.what,
        gain.cell if gain.cell != "rnn" else "",
        f"{gain.threads} threads" if gain.threads > 1 else "",
        f"{gain.vocabulary:,} characters in the vocabulary" if gain.vocabulary != V else "",
    ]
    return ", ".join(filter(None, what))


def _of_file(path: Path) -> list[Optimization]:
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = ((n, re.match(r"(?:def|class) (\w+)", line)) for n, line in enumerate(lines))
    definitions = [(number, match[1]) for number, match in matches if match]
    starts = {
        number: match
        for number, line in enumerate(lines)
        if (match := NAME.match(line))
        and not (number and lines[number - 1].strip().startswith("#"))
    }
    blocks = {number: range(number, _end(lines, number, len(m[1]))) for number, m in starts.items()}
    optimizations = []
    for start, match in starts.items():
        # A line belongs to the last of the blocks that it is in.
        numbers = [n for n in blocks[start] if not any(n in blocks[m] for m in starts if m > start)]
        source = "\n".join(lines[number][len(match[1]) :] for number in numbers).rstrip()
        inside = [name for number, name in definitions if number < start][-1:] if match[1] else []
        after = [name for number, name in definitions if number > start]
        optimizations.append(Optimization(match[2], (*inside, *after, "")[0], source))
    return optimizations


def _end(lines: list[str], start: int, indent: int) -> int:
    # The end of the block of this line; at the top level, of the definition that follows it.
    defined = False
    for number in range(start + 1, len(lines)):
        line = lines[number]
        depth = len(line) - len(line.lstrip())
        if line.strip() and (depth < indent or (indent == depth == 0 and defined)):
            return number
        defined = defined or line.startswith(("def ", "class "))
    return len(lines)


def _body(backend: str, function: str) -> list[str]:
    # The lines of a plain function, without its signature and its documentation.
    pieces = source_code.find(backend, function)
    if not pieces or pieces[0].file.stem not in PLAIN:
        return []
    (node,) = ast.parse(pieces[0].source).body
    if not isinstance(node, ast.FunctionDef):
        return []
    start = node.body[1 if ast.get_docstring(node) else 0].lineno
    lines = pieces[0].source.splitlines()
    while lines[start - 2].lstrip().startswith("#"):
        start -= 1
    return [line[4:] for line in lines[start - 1 :]]


def diff(old: Sequence[str], new: Sequence[str], context: int) -> str:
    """Return the difference of two lists of lines, with some equal lines before and after."""
    lines = difflib.unified_diff(old, new, lineterm="", n=context)
    # Without the names of files, and without the numbers of lines.
    changes = [line.rstrip() for line in lines if not line.startswith("@@")][2:]
    return "\n".join(changes)
