"""Code in columns on a terminal: corresponding lines beside each other, long ones folded."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
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

    Where it has room for one column, the first code is complete, and of every other one there is
    what differs from it. Two definitions may be marked where they differ, as sdiff does.
    """
    screen.rule(Text(name, "bold"))
    number = 2 if marked else (screen.width + BETWEEN) // (NARROWEST + BETWEEN)
    codes = list(definitions)
    if number < 2:
        first, *others = codes
        screen.print(_table(screen, {first: definitions[first]}, marked))
        for code in others:
            screen.print()
            screen.print(_differences(screen, first, code, definitions))
        return
    for start in range(0, len(codes), number):
        columns = {code: definitions[code] for code in codes[start : start + number]}
        screen.print(_table(screen, columns, marked))


def location(definition: Definition) -> str:
    """Return file and line, relative to the current folder, to open it from there."""
    here = Path.cwd()
    file = definition.file
    if file.is_relative_to(here):
        file = file.relative_to(here)
    return f"{file}:{definition.line}"


def _head(code: str, definitions: list[Definition]) -> str:
    return f"{code}  {location(definitions[0]) if definitions else ''}"


def _table(screen: Console, definitions: Definitions, marked: bool) -> Table:
    # Corresponding lines beside each other, with an empty row between two functions.
    functions = list(alignment.beside(list(definitions.values())))
    longest = max(len(line or "") for rows in functions for row in rows for line in row)
    width = min(longest, (screen.width - BETWEEN * (len(definitions) - 1)) // len(definitions))
    table = Table(box=None, padding=0, pad_edge=False)
    for code, parts in definitions.items():
        if table.columns:
            table.add_column(width=BETWEEN)
        table.add_column(_head(code, parts), width=width, overflow="fold")
    for rows in functions:
        if table.rows:
            table.add_row()
        for row, cells in zip(rows, zip(*(_python(column, width) for column in zip(*rows)))):
            mark = _mark(*row) if marked else ""
            table.add_row(cells[0], *(part for cell in cells[1:] for part in (mark, cell)))
    return table


def _differences(screen: Console, first: str, code: str, definitions: Definitions) -> Table:
    # The lines in which a code differs from the first one, below the heads of their functions.
    here = [definition.name for definition in definitions[code]]
    absent = [part.name for part in definitions[first] if part.name not in here]
    width = screen.width - BETWEEN
    table = Table(box=None, padding=0, pad_edge=False)
    table.add_column(width=BETWEEN)
    table.add_column(_head(code, definitions[code]), width=width, overflow="fold")
    table.add_row("", f"# compared with {first}: | changed, > added, < missing")
    if absent:
        table.add_row("", f"# without {', '.join(absent)}")
    for rows in alignment.beside([definitions[first], definitions[code]]):
        marks = [_mark(*row) for row in rows]
        cells = _python([left if right is None else right for left, right in rows], width)
        if any(marks) and any(right is not None for _, right in rows):
            for number, (mark, cell) in enumerate(zip(marks, cells)):
                if mark or number == 0:
                    table.add_row(mark, cell)
    return table


def _python(lines: Sequence[str | None], width: int) -> Iterator[Text]:
    # Lines in the terminal's own colors and on its own background, to suit light and dark ones,
    # and wrapped; None is an empty line.
    source = "\n".join(line for line in lines if line is not None)
    syntax = Syntax(source, "python", theme="ansi_dark", background_color="default")
    highlighted, quotes = iter(syntax.highlight(source).split("\n")), 0
    for line in lines:
        if line is None:
            yield Text()
            continue
        is_prose = quotes % 2 or line.lstrip().startswith('"""')
        quotes += line.count('"""')
        yield _wrapped(next(highlighted), width, 0 if is_prose else HANG)


def _wrapped(line: Text, width: int, hang: int) -> Text:
    # The line broken at spaces if it is too long, first before a comment at its end.
    if len(line) <= width:
        return line
    start = len(line) - len(line.plain.lstrip())
    code, _, comment = line.plain[start:].partition("  # ")
    further = " " * min(start + hang, width // 2)
    wrapper = textwrap.TextWrapper(width, subsequent_indent=further, break_on_hyphens=False)
    pieces = wrapper.wrap(line.plain[:start] + code)
    if comment and len(pieces[-1]) + len(f"  # {comment}") > width:
        pieces += wrapper.wrap(f"{further}# {comment}")
    begin, starts = 0, list[int]()
    for piece in pieces[1:]:
        begin = line.plain.index(piece.strip(), begin)
        starts.append(begin)
    parts = line.divide(starts)
    for part in parts:
        part.rstrip()
    return Text(f"\n{further}").join(parts)


def _mark(left: str | None, right: str | None) -> str:
    if left == right:
        return ""
    return " > " if left is None else " < " if right is None else " | "
