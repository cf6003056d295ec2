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

from rnn_scratch.cli import alignment

from .names import framework

BREAK = "&#10;"


class Code(NamedTuple):
    """A section of code, and the place that it is from."""

    source: str
    language: str = "python"
    place: str = ""


class Output(NamedTuple):
    """An output of a cell: a text, or a picture."""

    text: str = ""
    picture: bytes = b""


def rows(sources: Sequence[Sequence[str]]) -> list[list[int]]:
    """For each text the rows of its lines, from 0, where corresponding lines are aligned."""
    table = alignment.align_all([list(source) for source in sources])
    return [
        [number for number, row in enumerate(table) if row[n] is not None]
        for n in range(len(sources))
    ]


def block(code: Code, own_rows: Sequence[int] | None = None) -> str:
    """One section of code, highlighted, with a span for each line."""
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


def group(codes: Mapping[str, Code], everyone: Sequence[str]) -> str:
    """The code of several backends: tabs or columns, or one panel where it is all the same."""
    if len(set(codes.values())) == 1:
        one = block(next(iter(codes.values())))
        return one if set(codes) == set(everyone) else _panels("same", {tuple(codes): one}, {})
    aligned = rows([code.source.split("\n") for code in codes.values()])
    panels: dict[tuple[str, ...], str] = {
        (name,): block(code, own) for (name, code), own in zip(codes.items(), aligned)
    }
    return _panels("pieces", panels, {(name,): code.place for name, code in codes.items()})


def outputs(results: Mapping[str, Sequence[Output]], everyone: Sequence[str], source: str) -> str:
    """The outputs of the code of `source`, once for all backends where they are the same."""
    alike: dict[tuple[Output, ...], list[str]] = {}
    for name, result in results.items():
        if result:
            alike.setdefault(tuple(result), []).append(name)
    panels = {
        tuple(names): "".join(_output(each, source) for each in result)
        for result, names in alike.items()
    }
    if set(panels) == {tuple(everyone)}:
        return f'<div class="results">{panels[tuple(everyone)]}</div>'
    return _panels("results", panels, {}) if panels else ""


def panel(names: Sequence[str], content: str, place: str = "", markdown: bool = False) -> str:
    """What belongs to one framework or to some, under its name."""
    title = ", ".join(map(framework, names))
    where = f" <span>{html.escape(place)}</span>" if place else ""
    attribute = ' markdown="1"' if markdown else ""
    gap = "\n\n" if markdown else ""
    return (
        f'<div class="panel" data-for="{" ".join(names)}"{attribute}>{gap}'
        f'<p class="name"><b>{title}</b>{where}</p>{gap}{content}{gap}</div>'
    )


def figure_name(picture: bytes) -> str:
    """The place of a picture in the site, named by its content."""
    return f"figures/{hashlib.sha256(picture).hexdigest()[:16]}.png"


def _panels(
    kind: str, panels: Mapping[tuple[str, ...], str], places: Mapping[tuple[str, ...], str]
) -> str:
    content = "".join(panel(names, one, places.get(names, "")) for names, one in panels.items())
    return f'<div class="{kind}">{content}</div>'


def _output(output: Output, source: str) -> str:
    if output.picture:
        axes = [re.search(rf'plt\.{axis}label\("(.*?)"', source) for axis in ("y", "x")]
        words = " against ".join(axis.group(1) for axis in axes if axis)
        return (
            f'<img src="{figure_name(output.picture)}" loading="lazy" '
            f'alt="Plot made by the code above: {html.escape(words)}">'
        )
    text = html.escape(output.text.rstrip("\n"), quote=False).replace("\n", BREAK)
    return f'<pre class="output" tabindex="0">{text}</pre>'
