"""Code in columns on a terminal: corresponding lines beside each other, long ones wrapped."""

import difflib
import re
import textwrap
from collections.abc import Sequence
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
HANG = 8  # of a wrapped line's rest: more than the four of a block


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
    rest = list(pieces)
    while rest:
        row, rest = rest[:number], rest[number:]
        screen.print(beside(screen.width, {code: pieces[code] for code in row}))
        if rest:
            screen.print()


def beside(total: int, pieces: Pieces, marked: bool = False) -> Table:
    """Corresponding lines beside each other, `total` characters wide.

    With `marked`, two that differ have a mark between them, as in sdiff.
    """
    rows = alignment.beside(list(pieces.values()))
    longest = max(len(line) for row in rows for line in row if line is not None)
    width = min(longest, (total - BETWEEN * (len(pieces) - 1)) // len(pieces))
    table = Table.grid(padding=0)
    for number in range(2 * len(pieces) - 1):
        table.add_column(width=BETWEEN if number % 2 else width)
    _add_row(table, [_title(code, each) for code, each in pieces.items()])
    lines = [
        iter(_python("\n".join(line for line in column if line is not None)))
        for column in zip(*rows)
    ]
    for row in rows:
        texts = [Text() if line is None else next(each) for line, each in zip(row, lines)]
        mark = _mark(row, texts) if marked else ""
        _add_row(table, [_wrapped(text, width) for text in texts], mark)
    return table


def place(piece: Piece) -> str:
    """File and line, relative to the current folder, to open it from there."""
    here = Path.cwd()
    file = piece.file.relative_to(here) if piece.file.is_relative_to(here) else piece.file
    return f"{file}:{piece.line}"


def _title(code: Code, pieces: list[Piece]) -> Text:
    where = place(pieces[0]) if pieces else ""
    return Text.assemble((str(code), "bold"), "  ", (where, "dim"))


def _python(source: str) -> list[Text]:
    # Lines in the terminal's own colours and on its own background, to suit light and dark ones.
    syntax = Syntax(source, "python", theme="ansi_dark", background_color="default")
    return list(syntax.highlight(source).split("\n"))


def _wrapped(line: Text, width: int) -> Text:
    # The line cut at spaces if it is too long, with the rest below it indented.
    indent = len(line.plain) - len(line.plain.lstrip()) + HANG
    hang = " " * min(indent, width // 2)
    lines: list[Text] = []
    end = 0
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=hang,
        break_on_hyphens=False,
        expand_tabs=False,
        replace_whitespace=False,
    )
    for part in wrapper.wrap(line.plain):
        words = part if not lines else part.removeprefix(hang)
        start = line.plain.index(words, end)
        end = start + len(words)
        lines.append(Text(hang if lines else "").append_text(line[start:end]))
    return Text("\n").join(lines)


def _add_row(table: Table, texts: Sequence[Text], mark: str = "") -> None:
    cells = [texts[0]]
    for text in texts[1:]:
        cells += [Text(mark, "bold"), text]
    table.add_row(*cells)


def _mark(row: tuple[str | None, ...], texts: Sequence[Text]) -> str:
    # The mark of two lines, in which what differs is made to stand out.
    a, b = row
    if a == b:
        return ""
    if a is None or b is None:
        texts[a is None].stylize("bold")
        return " > " if a is None else " < "
    for text, spans in zip(texts, _changes(a, b)):
        for span in spans:
            text.stylize("reverse", *span)
    return " | "


def _changes(a: str, b: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    # The words in which two lines differ: where each begins and ends in either line.
    words = [list(re.finditer(r"\w+|\s+|.", line)) for line in (a, b)]
    matcher = difflib.SequenceMatcher(
        None, [each.group() for each in words[0]], [each.group() for each in words[1]], False
    )
    left, right = [], []
    for tag, a1, a2, b1, b2 in matcher.get_opcodes():
        if tag != "equal":
            left += [(words[0][a1].start(), words[0][a2 - 1].end())] if a2 > a1 else []
            right += [(words[1][b1].start(), words[1][b2 - 1].end())] if b2 > b1 else []
    return left, right
