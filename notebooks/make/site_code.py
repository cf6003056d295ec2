"""Code and its outputs as HTML: a panel for each framework, with aligned lines.

Without a script, the panels follow one another, with their names. Every line has the number of its
row in a display with columns. This HTML contains entities instead of line breaks, so that Markdown
does not change it.
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

from .lessons import Code, location
from .prose import framework

BREAK = "&#10;"
FIGURE = re.compile(r"^# Figure ([\w-]+): (.*(?:\n# .*)*)", re.MULTILINE)  # a name, and its words
STATIC = "_static"  # folder of styles, scripts and pictures


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
            codes[backend] = Code(source, location=location(pieces[-1]))
    return codes


def rows(sources: Sequence[str]) -> list[list[int]]:
    """Return the row of every line of each source, so that corresponding lines are aligned.

    Functions with the same name share rows, and only their lines are aligned.
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
    return [rows_of_code[:-2] for rows_of_code in numbers]  # drop final empty lines


def _name(text: str) -> str:
    # The name by which a section of code is aligned.
    match = re.search(r"^(?:def|class) (\w+)", text, re.MULTILINE)
    return match.group(1) if match else ""


def block(code: Code, own_rows: Sequence[int] | None = None) -> str:
    """Highlight one section of code, with a span for each line."""
    lexer = get_lexer_by_name(code.language, stripnl=False, ensurenl=False)
    # The formatter closes its spans at the end of a line. The lexer of diffs needs a final newline.
    text = highlight(f"{code.source}\n", lexer, HtmlFormatter(nowrap=True))
    lines = text.split("\n")[: len(code.source.split("\n"))]
    spans = []
    for number, line in enumerate(lines):
        row = "" if own_rows is None else f' style="--row:{own_rows[number] + 1}"'
        spans.append(f'<span class="line"{row}>{line}{BREAK}</span>')
    return f'<div class="highlight"><pre tabindex="0"><code>{"".join(spans)}</code></pre></div>'


def group(codes: Mapping[str, Code], everyone: Sequence[str], kind: str = "pieces") -> str:
    """Return the code of several backends as tabs or columns, or one panel for equal sources.

    The kind "pair" shows two columns, independent of the reader's selection.
    """
    if len(set(codes.values())) == 1:
        one = block(next(iter(codes.values())))
        return one if set(codes) == set(everyone) else _panels("same", {tuple(codes): one}, {})
    aligned = rows([code.source for code in codes.values()])
    panels: dict[tuple[str, ...], str] = {
        (name,): block(code, code_rows) for (name, code), code_rows in zip(codes.items(), aligned)
    }
    return _panels(kind, panels, {(name,): code.location for name, code in codes.items()})


def outputs(results: Mapping[str, Sequence[Output]], everyone: Sequence[str], source: str) -> str:
    """Return the outputs of the code `source`, once for all backends with equal outputs."""
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
    """Return content for some frameworks, under their names."""
    title = ", ".join(map(framework, names))
    where = f" <span>{html.escape(place)}</span>" if place else ""
    gap = "\n\n" if markdown else ""
    return (
        f'<div class="panel" data-for="{" ".join(names)}">{gap}'
        f'<p class="name"><b>{title}</b>{where}</p>{gap}{content}{gap}</div>'
    )


def figure_name(picture: bytes) -> str:
    """Return the place of a picture in the site; its name is a digest."""
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
