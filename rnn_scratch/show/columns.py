"""Code in columns on a terminal: corresponding lines beside each other, long ones folded."""

import difflib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ..contract import VARIANTS
from . import alignment
from .source_code import Piece

NARROWEST = 58  # of a column: two fit beside each other in a terminal of 120
BETWEEN = 3  # columns, for a mark
HANG = 8  # of a folded line's rest: more than the four of a block


class Code(NamedTuple):
    """A variant of a backend: "torch" is its ``scratch``, "torch:fast" its ``fast``."""

    backend: str
    model: str

    def __str__(self) -> str:
        """Its name, as the options take it."""
        return self.backend if self.model == VARIANTS[0] else f"{self.backend}:{self.model}"


Pieces = dict[Code, list[Piece]]  # a function and its helpers, of each


def print_rows(screen: Console, name: str, pieces: Pieces) -> None:
    """Print the pieces in rows of as many columns as the terminal has room for."""
    number = max(1, (screen.width + BETWEEN) // (NARROWEST + BETWEEN))
    screen.rule(Text(name, "bold"))
    codes = list(pieces)
    for start in range(0, len(codes), number):
        if start:
            screen.print()
        screen.print(_table(screen, {code: pieces[code] for code in codes[start : start + number]}))


def print_differences(screen: Console, name: str, pieces: Pieces) -> None:
    """Print two pieces beside each other with marks where they differ, as sdiff does."""
    screen.rule(Text(name, "bold"))
    screen.print(_table(screen, pieces, marked=True))


def place(piece: Piece) -> str:
    """File and line, relative to the current folder, to open it from there."""
    here = Path.cwd()
    file = piece.file.relative_to(here) if piece.file.is_relative_to(here) else piece.file
    return f"{file}:{piece.line}"


def _table(screen: Console, pieces: Pieces, marked: bool = False) -> Table:
    # Corresponding lines beside each other.
    rows = alignment.beside(list(pieces.values()))
    longest = max(len(line) for row in rows for line in row if line is not None)
    width = min(longest, (screen.width - BETWEEN * (len(pieces) - 1)) // len(pieces))
    table = Table.grid()
    for number in range(2 * len(pieces) - 1):
        table.add_column(width=BETWEEN if number % 2 else width)
    cells = [_title(code, each) for code, each in pieces.items()]
    table.add_row(*_joined(cells, Text()))
    columns = [_python([line for line in column if line is not None]) for column in zip(*rows)]
    for row in rows:
        cells = [Text() if line is None else next(each) for line, each in zip(row, columns)]
        mark = _mark(row, cells) if marked else Text()
        table.add_row(*_joined([_folded(screen, text, width) for text in cells], mark))
    return table


def _joined(cells: list[Text], mark: Text) -> list[Text]:
    return [part for cell in cells for part in (mark, cell)][1:]


def _title(code: Code, pieces: list[Piece]) -> Text:
    where = place(pieces[0]) if pieces else ""
    return Text.assemble((str(code), "bold"), "  ", (where, "dim"))


def _python(lines: list[str]) -> Iterator[Text]:
    # Lines in the terminal's own colours and on its own background, to suit light and dark ones.
    syntax = Syntax("\n".join(lines), "python", theme="ansi_dark", background_color="default")
    return iter(syntax.highlight(syntax.code).split("\n"))


def _folded(screen: Console, line: Text, width: int) -> Text:
    # The line cut at spaces if it is too long, with the rest below it indented.
    if len(line) <= width:
        return line
    indent = len(line) - len(line.plain.lstrip())
    hang = min(indent + HANG, width // 2)
    parts = line[indent:].wrap(screen, width - hang)
    return Text(" " * min(indent, hang)).append_text(Text("\n" + " " * hang).join(parts))


def _mark(row: tuple[str | None, ...], texts: list[Text]) -> Text:
    # The mark of two lines, in which what differs is made to stand out.
    a, b = row
    if a == b:
        return Text()
    if a is None or b is None:
        texts[a is None].stylize("bold")
        return Text(" > " if a is None else " < ", "bold")
    words = [re.findall(r"\w+|\s+|.", line) for line in (a, b)]
    ends = [[0, *itertools.accumulate(map(len, each))] for each in words]
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    for tag, a1, a2, b1, b2 in matcher.get_opcodes():
        if tag != "equal":
            texts[0].stylize("reverse", ends[0][a1], ends[0][a2])
            texts[1].stylize("reverse", ends[1][b1], ends[1][b2])
    return Text(" | ", "bold")
