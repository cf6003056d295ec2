"""Code and its outputs as HTML: a panel for each framework, with aligned lines.

Without a script the panels follow one another, each with its name. Every line has the number of its
row in a display with columns. This HTML contains no line breaks, only entities for them, so that
Markdown leaves it as it is.
"""

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from rnn_scratch.show import alignment, source_code

from .lessons import Code, place
from .prose import framework

BREAK = "&#10;"
FIGURE = re.compile(r"^# Figure ([\w-]+): (.*(?:\n# .*)*)", re.MULTILINE)  # a name, and its words
STATIC = "_static"  # the folder of all files that are no pages, in the pages and in the site


class Output(NamedTuple):
    """An output of a cell: a text, or a picture."""

    text: str = ""
    picture: bytes = b""


def of(backends: Sequence[str], *names: str) -> dict[str, Code]:
    """Return functions of each backend that has them, without their helpers, as code."""
    codes = {}
    for backend in backends:
        pieces = [piece for name in names for piece in source_code.find(backend, name)[:1]]
        if pieces:
            source = "\n\n\n".join(piece.source for piece in pieces)
            codes[backend] = Code(source, place=place(pieces[-1]))
    return codes


def rows(sources: Sequence[str]) -> list[list[int]]:
    """Return, for each code, the rows of its lines, so that corresponding lines are aligned.

    One function at a time: functions of one name, with two empty lines between them, stand beside
    each other, and no line is aligned with one of another function.
    """
    texts = [source.split("\n\n\n") for source in sources]
    tables = alignment.functions(
        [[_name(text) for text in column] for column in texts],
        [[text.split("\n") for text in column] for column in texts],
    )
    numbers: list[list[int]] = [[] for _ in sources]
    start = 0
    for table in tables:
        end = start + len(table)
        for rows_of_code, column in zip(numbers, zip(*table)):
            lines = [start + number for number, line in enumerate(column) if line is not None]
            rows_of_code += [*lines, end, end + 1] if lines else []  # two empty lines at its end
        start = end + 2
    return [rows_of_code[:-2] for rows_of_code in numbers]  # but not the last one


def _name(text: str) -> str:
    # What a function or another section of a code is aligned by.
    match = re.search(r"^(?:def|class) (\w+)", text, re.MULTILINE)
    return match.group(1) if match else ""


def block(code: Code, own_rows: Sequence[int] | None = None) -> str:
    """Highlight one section of code, with a span for each line."""
    lexer = get_lexer_by_name(code.language, stripnl=False, ensurenl=False)
    # The formatter ends its spans with each line, so that the lines can be separated. The lexer of
    # diffs recognizes only lines with an end.
    text = highlight(f"{code.source}\n", lexer, HtmlFormatter(nowrap=True))
    lines = text.split("\n")[: len(code.source.split("\n"))]
    spans = []
    for number, line in enumerate(lines):
        row = "" if own_rows is None else f' style="--row:{own_rows[number] + 1}"'
        spans.append(f'<span class="line"{row}>{line}{BREAK}</span>')
    return f'<div class="highlight"><pre tabindex="0"><code>{"".join(spans)}</code></pre></div>'


def group(codes: Mapping[str, Code], everyone: Sequence[str], kind: str = "pieces") -> str:
    """Show the code of several backends: tabs or columns, or one panel if all are the same.

    Of the kind "pair" they are beside each other, whatever the reader selects.
    """
    if len(set(codes.values())) == 1:
        one = block(next(iter(codes.values())))
        return one if set(codes) == set(everyone) else _panels("same", {tuple(codes): one}, {})
    aligned = rows([code.source for code in codes.values()])
    panels: dict[tuple[str, ...], str] = {
        (name,): block(code, code_rows) for (name, code), code_rows in zip(codes.items(), aligned)
    }
    return _panels(kind, panels, {(name,): code.place for name, code in codes.items()})


def outputs(results: Mapping[str, Sequence[Output]], everyone: Sequence[str], source: str) -> str:
    """Show the outputs of the code of `source`, once for all backends that print the same."""
    alike: dict[tuple[Output, ...], list[str]] = {}
    for name, result in results.items():
        if result:
            alike.setdefault(tuple(result), []).append(name)
    panels = {
        tuple(names): "".join(_output(output, source) for output in result)
        for result, names in alike.items()
    }
    link = ""
    if (figure := FIGURE.search(source)) and any(output.picture for output in sum(alike, ())):
        place = f"figure-{figure[1]}"
        link = f'<a class="place" id="{place}" href="#{place}" title="Link to this figure">#</a>'
    if set(panels) == {tuple(everyone)}:
        return f'<div class="results">{link}{panels[tuple(everyone)]}</div>'
    return link + _panels("results", panels, {}) if panels else ""


def panel(names: Sequence[str], content: str, place: str = "", markdown: bool = False) -> str:
    """Show what belongs to some frameworks, under their names."""
    title = ", ".join(map(framework, names))
    where = f" <span>{html.escape(place)}</span>" if place else ""
    gap = "\n\n" if markdown else ""
    return (
        f'<div class="panel" data-for="{" ".join(names)}">{gap}'
        f'<p class="name"><b>{title}</b>{where}</p>{gap}{content}{gap}</div>'
    )


def figure_name(picture: bytes) -> str:
    """Return the place of a picture in the site, named by its content."""
    return f"{STATIC}/figures/{hashlib.sha256(picture).hexdigest()[:16]}.png"


def _panels(
    kind: str, panels: Mapping[tuple[str, ...], str], places: Mapping[tuple[str, ...], str]
) -> str:
    content = "".join(panel(names, one, places.get(names, "")) for names, one in panels.items())
    return f'<div class="{kind}">{content}</div>'


def _output(output: Output, source: str) -> str:
    if output.picture:
        figure = FIGURE.search(source)
        words = html.escape(figure[2].replace("\n# ", " ")) if figure else ""
        name = figure_name(output.picture)
        return f'<figure><img src="{name}" loading="lazy" alt="{words}"></figure>'
    text = html.escape(output.text.rstrip("\n"), quote=False).replace("\n", BREAK)
    return f'<pre class="output" tabindex="0">{text}</pre>'
