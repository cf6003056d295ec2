"""The optimizations in the backends' ``fast``: names, code, and gains.

An optimization is a comment that starts with a name and a colon, in ``fast`` or in a sibling file
that only ``fast`` uses: ``# In place: new memory costs more than the additions.`` It extends to the
end of its block. The record has its gain.
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
NAME = re.compile(r"( *)# ([A-Za-z][A-Za-z-]+(?: [a-z-]+){0,4})(?:[,(][^:]*)?: ")


class Optimization(NamedTuple):
    """One comment that names an optimization, with the code under it."""

    name: str
    function: str  # the function or class that contains it, or that follows it
    source: str


class Gain(Record):
    """The gain of an optimization: the time without it divided by the time with it."""

    name: str  # the name in the comment of the backend's code
    num_hiddens: dict[int, float] = {}  # relative times, keyed by number of hidden units
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
    """Return the optimizations of a backend, file by file; a name may occur several times."""
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

    `replaces` names plain functions. The name of the function that contains the code takes
    precedence, then the first function that the backend defines. Functions in `shown` are not
    repeated in the diff; the new functions are added to `shown`.
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
        diffs.append(diff(old, optimization.source.splitlines(), context=len(old)))
    return "\n\n".join(diffs)


def gains(backend: str, path: Path = RECORD) -> Cells:
    """Return the gains of a backend's optimizations as a table; empty without measurements."""
    measurements = read(path).backends.get(backend)
    if not measurements:
        return []
    sizes = sorted({size for gain in measurements for size in gain.num_hiddens})
    head = ["optimization", *(f"gain, {size} hidden units" for size in sizes), "what was timed"]
    rows = (
        [gain.name, *(f"{gain.num_hiddens[size]:.2f}" for size in sizes), _workload(gain)]
        for gain in measurements
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


def _workload(gain: Gain) -> str:
    # Describe the timed workload by its differences from a training minibatch of the plain cell
    # with the chapter's sizes and one thread.
    parts = [
        gain.what,
        gain.cell if gain.cell != "rnn" else "",
        f"{gain.threads} threads" if gain.threads > 1 else "",
        f"{gain.vocabulary:,} characters in the vocabulary" if gain.vocabulary != V else "",
    ]
    return ", ".join(filter(None, parts))


def _of_file(path: Path) -> list[Optimization]:
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = ((n, re.match(r"(?:def|class) (\w+)", line)) for n, line in enumerate(lines))
    definitions = [(index, match[1]) for index, match in matches if match]
    starts = {
        index: match
        for index, line in enumerate(lines)
        if (match := NAME.match(line)) and not (index and lines[index - 1].strip().startswith("#"))
    }
    blocks = {index: range(index, _end(lines, index, len(m[1]))) for index, m in starts.items()}
    optimizations = []
    for start, match in starts.items():
        # A line belongs to the last block that contains it.
        later = [index for index in starts if index > start]
        indices = [n for n in blocks[start] if not any(n in blocks[index] for index in later)]
        source = "\n".join(lines[index][len(match[1]) :] for index in indices).rstrip()
        enclosing = [name for index, name in definitions if index < start][-1:] if match[1] else []
        following = [name for index, name in definitions if index > start]
        optimizations.append(Optimization(match[2], (*enclosing, *following, "")[0], source))
    return optimizations


def _end(lines: list[str], start: int, indent: int) -> int:
    # Return the end of this line's block; at the top level, the end of the following definition.
    defined = False
    for index in range(start + 1, len(lines)):
        line = lines[index]
        depth = len(line) - len(line.lstrip())
        if line.strip() and (depth < indent or (indent == depth == 0 and defined)):
            return index
        defined = defined or line.startswith(("def ", "class "))
    return len(lines)


def _body(backend: str, function: str) -> list[str]:
    # Return the lines of a plain function without its signature and docstring.
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
    """Return the diff of two lists of lines, with up to `context` equal lines around changes."""
    lines = difflib.unified_diff(old, new, lineterm="", n=context)
    # Omit file names and line numbers.
    changes = [line.rstrip() for line in lines if not line.startswith("@@")][2:]
    return "\n".join(changes)
