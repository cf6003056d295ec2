"""Show sources in columns, aligning corresponding lines and wrapping long ones."""

import io
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from . import alignment, source_code
from .source_code import Definition

MIN_WIDTH = 55  # minimum column width in characters; two columns fit in a 1,100-pixel window
GAP = 3  # width of the gap between columns (may contain a difference mark)
HANG = 8  # indentation of continuation lines; exceeds the block indentation of 4
HIGHLIGHT = "#ffe9a8"  # background color of differing lines in HTML
Definitions = Mapping[str, list[Definition]]  # maps variants to a function and its helpers
Line = tuple[Text, int]  # text and hanging indent
# JupyterLab styles <code> and removes `inherit`, so <code> repeats the <pre> style. Without
# styles, as on GitHub, <pre> keeps the columns aligned and <code> uses a monospaced font.
STYLE = "background: #fff; color: #222; font-family: monospace; font-size: 13px; white-space: pre"
BOX = "line-height: 1.3; margin: 0; overflow-x: auto; padding: 8px; text-align: left"
HTML = f'<pre style="{STYLE}; {BOX}"><code style="{STYLE}">{{code}}</code></pre>'


def show(screen: Console, name: str, definitions: Definitions, is_diff: bool = False) -> None:
    """Print the definitions in as many columns as fit on the screen.

    If `is_diff` is true, mark the differences between two sources as sdiff does.
    """
    screen.rule(Text(name, "bold"))
    num_columns = 2 if is_diff else max(1, (screen.width + GAP) // (MIN_WIDTH + GAP))
    for start in range(0, len(definitions), num_columns):
        columns = dict(itertools.islice(definitions.items(), start, start + num_columns))
        screen.print(_table(screen, columns, is_diff, is_html=False))


def render_html(definitions: Definitions) -> str:
    """Render the definitions in columns as HTML, marking differences from the first column."""
    width = len(definitions) * (MIN_WIDTH + GAP) - GAP
    screen = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
    screen.print(_table(screen, definitions, is_diff=True, is_html=True))
    return screen.export_html(code_format=HTML, inline_styles=True)


def location(definitions: list[Definition]) -> str:
    """Return the first definition's file (relative to the working directory) and line."""
    first, cwd = source_code.sort_definitions(definitions)[0], Path.cwd()
    file = first.file.relative_to(cwd) if first.file.is_relative_to(cwd) else first.file
    return f"{file}:{first.line}"


def _table(screen: Console, definitions: Definitions, is_diff: bool, is_html: bool) -> Table:
    """Return a table of aligned lines, with an empty row between functions."""
    sources = [source_code.sort_definitions(source) for source in definitions.values()]
    pairs = [[(part.name, part.source) for part in source] for source in sources]
    functions = list(alignment.align_functions(pairs))
    longest = max(len(line or "") for rows in functions for row in rows for line in row)
    width = min(longest, (screen.width - GAP * (len(definitions) - 1)) // len(definitions))
    table = Table(box=None, padding=0, pad_edge=False)
    for variant, parts in definitions.items():
        if table.columns:
            table.add_column(width=GAP)
        title = variant if is_html else f"{variant}  {location(parts)}"
        table.add_column(title, width=width, overflow="fold")
    for rows in functions:
        if table.rows:
            table.add_row()
        for row, cells in zip(rows, zip(*(_highlight(column, is_html) for column in zip(*rows)))):
            first, *rest = _fold(cells, width)
            marks = [_mark(row[0], line) if is_diff else "" for line in row[1:]]
            for mark, cell in zip(marks, rest):
                if mark and is_html:
                    cell.stylize(f"on {HIGHLIGHT}")
            table.add_row(first, *(part for pair in zip(marks, rest) for part in pair))
    return table


def _highlight(lines: Sequence[str | None], is_html: bool = False) -> Iterator[Line]:
    """Yield highlighted lines with their hanging indents; ANSI colors suit any background."""
    source = "\n".join(line for line in lines if line is not None)
    theme = "ansi_light" if is_html else "ansi_dark"
    syntax = Syntax(source, "python", theme=theme, background_color="default")
    highlighted_lines, quotes = iter(syntax.highlight(source).split("\n")), 0
    for line in lines:
        is_prose = line is not None and (quotes % 2 or line.lstrip().startswith('"""'))
        quotes += (line or "").count('"""')
        yield Text() if line is None else next(highlighted_lines), 0 if is_prose else HANG


def _fold(row: Sequence[Line], width: int) -> list[Text]:
    """Break a row's long lines; lines with equally many words break at the same words."""
    folded_texts = []
    for text, hang in row:
        starts = [word.start() for word in re.finditer(r"\S+", text.plain)]
        similar_lines = [line.plain for line, _ in row if len(line.plain.split()) == len(starts)]
        breaks = _breaks(max(similar_lines, key=len), width, hang)  # identical for similar lines
        parts = text.divide([starts[index] for index in breaks])
        for part in parts:
            part.rstrip()
        folded_texts.append(Text("\n" + _indent(text.plain, width, hang)).join(parts))
    return folded_texts


def _breaks(line: str, width: int, hang: int) -> list[int]:
    """Return the indices of words that start a new line, preferably a comment's first word."""
    if len(line) <= width:
        return []
    is_comment = line.lstrip().startswith("#")
    code, _, comment = (line, "", "") if is_comment else line.partition("  # ")
    indent = _indent(line, width, hang)
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    pieces = wrapper.wrap(code)
    if comment and len(f"{pieces[-1]}  # {comment}") > width:
        pieces += wrapper.wrap(f"{indent}# {comment}")
    return list(itertools.accumulate(len(piece.split()) for piece in pieces))[:-1]


def _indent(line: str, width: int, hang: int) -> str:
    return " " * min(len(line) - len(line.lstrip()) + hang, width // 2)


def _mark(left: str | None, right: str | None) -> str:
    if left == right:
        return ""
    return " > " if left is None else " < " if right is None else " | "
