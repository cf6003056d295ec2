"""Code in columns on a terminal: corresponding lines beside each other, long ones folded."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from . import alignment
from .source_code import Definition

NARROWEST = 58  # of a column: two fit beside each other in a terminal of 120
BETWEEN = 3  # columns, for a mark
HANG = 8  # of a folded line's rest: more than the four of a block


Definitions = Mapping[str, list[Definition]]  # a function and its helpers, by the names of variants


def show(screen: Console, name: str, definitions: Definitions, marked: bool = False) -> None:
    """Print the definitions in rows of as many columns as the terminal has room for.

    Two definitions may be marked where they differ, as sdiff does.
    """
    screen.rule(Text(name, "bold"))
    number = 2 if marked else max(1, (screen.width + BETWEEN) // (NARROWEST + BETWEEN))
    codes = list(definitions)
    for start in range(0, len(codes), number):
        columns = {code: definitions[code] for code in codes[start : start + number]}
        screen.print(_table(screen, columns, marked))


def location(definition: Definition) -> str:
    """File and line, relative to the current folder, to open it from there."""
    here = Path.cwd()
    file = definition.file
    if file.is_relative_to(here):
        file = file.relative_to(here)
    return f"{file}:{definition.line}"


def _table(screen: Console, definitions: Definitions, marked: bool) -> Table:
    # Corresponding lines beside each other.
    rows = alignment.beside(list(definitions.values()))
    longest = max(len(line) for row in rows for line in row if line is not None)
    width = min(longest, (screen.width - BETWEEN * (len(definitions) - 1)) // len(definitions))
    table = Table(box=None, padding=0, pad_edge=False)
    for code, parts in definitions.items():
        if table.columns:
            table.add_column(width=BETWEEN)
        table.add_column(f"{code}  {location(parts[0]) if parts else ''}", width=width)
    columns = [_python([line for line in column if line is not None]) for column in zip(*rows)]
    for row in rows:
        mark = _mark(*row) if marked else ""
        cells: list[Text | str] = []
        for line, column in zip(row, columns):
            cell = Text() if line is None else _folded(screen, next(column), width)
            cells += [mark, cell] if cells else [cell]
        table.add_row(*cells)
    return table


def _python(lines: list[str]) -> Iterator[Text]:
    # Lines in the terminal's own colors and on its own background, to suit light and dark ones.
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


def _mark(left: str | None, right: str | None) -> str:
    if left == right:
        return ""
    return " > " if left is None else " < " if right is None else " | "
