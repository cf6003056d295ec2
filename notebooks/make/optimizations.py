"""Optimizations in the backends' ``fast`` files: names, reasons, code and speedups.

In ``fast``, or in a sibling file that only ``fast`` uses, an optimization begins with a comment
that starts with a name and a colon: ``# In place: allocation takes longer than addition.`` The
optimization extends to the end of the block, or to the next optimization. A record
contains the measured speedups.
"""

import itertools
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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


@dataclass(frozen=True)
class Optimization:
    """A comment that names an optimization, and the code below it."""

    name: str
    reason: str  # the first sentence of the comment
    source: str


class Gain(Record):
    """The speedup from an optimization: the time without it, divided by the time with it."""

    name: str  # name from the comment in the backend's code
    num_hiddens: dict[int, float] = {}  # speedups, keyed by the number of hidden units
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
    """Read the record of speedups."""
    return msgspec.json.decode(path.read_bytes(), type=Gains)


def find(backend: str) -> list[Optimization]:
    """Return a backend's optimizations in file order; names may repeat."""
    paths = source_code.files(backend)
    helpers = [path for path in paths if path.stem not in (*MODULES, "__init__")]
    fast = [path for path in paths if path.stem == "fast"]
    return [optimization for path in (*fast, *helpers) for optimization in _find_in_file(path)]


def names(backend: str) -> list[str]:
    """Return the distinct names of a backend's optimizations."""
    return list(dict.fromkeys(optimization.name for optimization in find(backend)))


def code(backend: str, name: str) -> str:
    """Return an optimization's code: all parts with its name."""
    return "\n\n".join(part.source for part in find(backend) if part.name == name)


def gains_table(backend: str) -> str:
    """Return a Markdown table of a backend's optimizations, then the machine and versions."""
    record = read()
    measurements = record.backends[backend]
    sizes = sorted({size for gain in measurements for size in gain.num_hiddens})
    reasons = {optimization.name: optimization.reason for optimization in reversed(find(backend))}
    heads = (f"gain, {size} hidden units" for size in sizes)
    rows = (
        [
            f"**{gain.name}**: {reasons[gain.name]}",
            *(f"{gain.num_hiddens[size]:.2f}" for size in sizes),
            _workload(gain),
        ]
        for gain in measurements
    )
    machine = record.machines[backend].processor
    versions = ", ".join(f"{name} {version}" for name, version in record.versions[backend].items())
    head = ["optimization", *heads, "what was timed"]
    return f"{prose.table([head, *rows])}\n\nThe machine: {machine}; {versions}."


def _workload(gain: Gain) -> str:
    """Describe the timed workload, including any differences from `Gain`'s defaults."""
    parts = [
        gain.workload,
        gain.cell if gain.cell != "rnn" else "",
        f"{gain.threads} threads" if gain.threads > 1 else "",
        f"{gain.vocabulary:,} characters in the vocabulary" if gain.vocabulary != V else "",
    ]
    return ", ".join(filter(None, parts))


def _find_in_file(path: Path) -> list[Optimization]:
    lines = path.read_text(encoding="utf-8").splitlines()
    optimizations = []
    for index, line in enumerate(lines):
        if not (match := NAME.match(line)) or lines[index - 1].strip().startswith("#"):
            continue

        def continues(line: str, indent: str = match[1]) -> bool:
            return not line or (line.startswith(indent) and not NAME.match(line))

        block = [line, *itertools.takewhile(continues, lines[index + 1 :])]
        source = textwrap.dedent("\n".join(block)).rstrip()
        comment = itertools.takewhile(lambda line: line.startswith("#"), source.split("\n"))
        text = " ".join(line.lstrip("# ") for line in comment).partition(": ")[2]
        reason = re.split(r"(?<=[.]) (?=[A-Z])", text)[0]
        optimizations.append(Optimization(match[2], reason, source))
    return optimizations
