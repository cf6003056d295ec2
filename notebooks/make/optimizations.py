"""Optimizations in the backends' ``fast`` files: names, code and gains.

In ``fast``, or in a sibling file that only ``fast`` uses, an optimization begins with a comment
that starts with a name and a colon: ``# In place: allocation takes longer than addition.`` The
optimization extends to the end of the block. A record contains the measured gains.
"""

import ast
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from rnn_scratch.contract import MODULES
from rnn_scratch.show import source_code
from rnn_scratch.system import host
from rnn_scratch.system.records import Record

from . import prose

PLAIN = ("scratch", "cells", "deep")  # files with the plain, unoptimized code
V = 28  # vocabulary size of the lessons' text
RECORD = Path("notebooks/records/optimizations.json")
NAME = re.compile(r"( *)# ([A-Za-z][A-Za-z-]+(?: [a-z-]+){0,4})(?:[,(][^:]*)?: ")


class Optimization(NamedTuple):
    """A comment that names an optimization, with the code below it."""

    name: str
    function: str  # name of the enclosing definition or, at top level, of the next one
    source: str


class Gain(Record):
    """The gain of an optimization: time without the optimization, divided by time with it."""

    name: str  # name from the comment in the backend's code
    num_hiddens: dict[int, float] = {}  # gains, keyed by the number of hidden units
    workload: Literal["training", "generation"] = "training"
    cell: str = "rnn"
    threads: int = 1
    vocabulary: int = V


class Gains(Record):
    """The record that `notebooks/measure/optimizations.py` writes; fields are keyed by backend."""

    machines: dict[str, host.Machine] = {}
    versions: dict[str, dict[str, str]] = {}
    backends: dict[str, list[Gain]] = {}


def read(path: Path = RECORD) -> Gains:
    """Read the record of the gains."""
    return msgspec.json.decode(path.read_bytes(), type=Gains)


def find(backend: str) -> list[Optimization]:
    """Return the optimizations of a backend, file by file; several may have the same name."""
    paths = source_code.files(backend)
    helpers = [path for path in paths if path.stem not in (*MODULES, "__init__")]
    fast = [path for path in paths if path.stem == "fast"]
    return [optimization for path in (*fast, *helpers) for optimization in _find_in_file(path)]


def names(backend: str) -> list[str]:
    """Return the distinct names of a backend's optimizations."""
    return list(dict.fromkeys(optimization.name for optimization in find(backend)))


def difference(backend: str, name: str, replaces: Sequence[str], shown: set[str]) -> str:
    """Return an optimization's code as a diff against the plain function that it replaces.

    `replaces` names candidates for the plain function. If the function that contains the code is a
    candidate, choose it; otherwise, choose the first candidate that the backend defines. If the
    function is in `shown`, leave it out of the diff; otherwise, add it to `shown`.
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


def gains_table(backend: str) -> str:
    """Return a Markdown table of a backend's gains, followed by the machine and the versions."""
    record = read()
    measurements = record.backends[backend]
    sizes = sorted({size for gain in measurements for size in gain.num_hiddens})
    head = ["optimization", *(f"gain, {size} hidden units" for size in sizes), "what was timed"]
    rows = (
        [gain.name, *(f"{gain.num_hiddens[size]:.2f}" for size in sizes), _workload(gain)]
        for gain in measurements
    )
    machine = record.machines[backend].processor
    versions = ", ".join(f"{name} {version}" for name, version in record.versions[backend].items())
    return f"{prose.table([head, *rows])}\n\nThe machine: {machine}; {versions}."


def _workload(gain: Gain) -> str:
    # Describe the timed workload: training or generation, and any differences from the
    # defaults, which are the `rnn` cell, one thread, and the chapter's vocabulary.
    parts = [
        gain.workload,
        gain.cell if gain.cell != "rnn" else "",
        f"{gain.threads} threads" if gain.threads > 1 else "",
        f"{gain.vocabulary:,} characters in the vocabulary" if gain.vocabulary != V else "",
    ]
    return ", ".join(filter(None, parts))


def _find_in_file(path: Path) -> list[Optimization]:
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
        # A line in several blocks belongs to the last of these blocks.
        later = [index for index in starts if index > start]
        indices = [n for n in blocks[start] if not any(n in blocks[index] for index in later)]
        source = "\n".join(lines[index][len(match[1]) :] for index in indices).rstrip()
        enclosing = [name for index, name in definitions if index < start][-1:] if match[1] else []
        following = [name for index, name in definitions if index > start]
        optimizations.append(Optimization(match[2], (*enclosing, *following, "")[0], source))
    return optimizations


def _end(lines: list[str], start: int, indent: int) -> int:
    # Return the index after the block at `start`; at top level, it ends after one definition.
    defined = False
    for index in range(start + 1, len(lines)):
        line = lines[index]
        depth = len(line) - len(line.lstrip())
        if line.strip() and (depth < indent or (indent == depth == 0 and defined)):
            return index
        defined = defined or line.startswith(("def ", "class "))
    return len(lines)


def _body(backend: str, function: str) -> list[str]:
    # Return a plain function's lines after its docstring, or [] if the backend lacks the function.
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


def diff(old: Sequence[str], replacement: Sequence[str], context: int) -> str:
    """Return the diff between two lists of lines, with up to `context` lines around each change."""
    lines = difflib.unified_diff(old, replacement, lineterm="", n=context)
    # Omit file names and line numbers.
    changes = [line.rstrip() for line in lines if not line.startswith("@@")][2:]
    return "\n".join(changes)
