"""Code and what it gives, as HTML: a panel for each framework, its lines numbered to stand level.

Without a script the panels stand one below the other, each with its name. Every line has the row
on which it stands when panels are set beside each other. There is no line break in this HTML that
is not an entity, so that Markdown takes it as it is.
"""

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from rnn_scratch.cli import source_code

from .site_prose import framework

BREAK = "&#10;"


class Code(NamedTuple):
    """A stretch of code, and where it is from."""

    source: str
    language: str = "python"
    place: str = ""


class Output(NamedTuple):
    """What a cell gave: a text, or a picture."""

    text: str = ""
    picture: bytes = b""


def levels(sources: Sequence[Sequence[str]]) -> list[list[int]]:
    """For each text the rows, from 0, on which its lines stand when like ones are set level."""
    # rows[r][n] is the number of the line of text n that stands on row r. Each text is set beside
    # those before it, of which a row's first line speaks for the row.
    rows: list[dict[int, int]] = [{0: line} for line in range(len(sources[0]))]
    for number, source in enumerate(sources[1:], 1):
        speaking = [sources[min(row)][row[min(row)]] for row in rows]
        old, lines, merged = iter(rows), iter(range(len(source))), []
        for a, b in source_code.aligned(speaking, list(source)):
            row = {} if a is None else next(old)
            merged.append(row if b is None else {**row, number: next(lines)})
        rows = merged
    return [[r for r, row in enumerate(rows) if n in row] for n in range(len(sources))]


def block(code: Code, rows: Sequence[int] | None = None) -> str:
    """One stretch of code, highlighted, a span for each line."""
    lexer = get_lexer_by_name(code.language, stripnl=False, ensurenl=False)
    # The formatter ends its spans with each line, so that lines can be taken apart.
    lines = highlight(code.source, lexer, HtmlFormatter(nowrap=True)).split("\n")
    if len(lines) > len(code.source.split("\n")):
        del lines[len(code.source.split("\n")) :]
    done = []
    for number, line in enumerate(lines):
        row = "" if rows is None else f' style="--row:{rows[number] + 1}"'
        done.append(f'<span class="line"{row}>{line}{BREAK}</span>')
    return f'<div class="highlight"><pre tabindex="0"><code>{"".join(done)}</code></pre></div>'


def group(codes: Mapping[str, Code], everyone: Sequence[str]) -> str:
    """The code of several backends: tabs or columns, or one panel where it is all the same."""
    if len(set(codes.values())) == 1:
        one = block(next(iter(codes.values())))
        return one if set(codes) == set(everyone) else _panels("same", {tuple(codes): one}, {})
    rows = levels([code.source.split("\n") for code in codes.values()])
    panels: dict[tuple[str, ...], str] = {
        (name,): block(code, own) for (name, code), own in zip(codes.items(), rows)
    }
    return _panels("pieces", panels, {(name,): code.place for name, code in codes.items()})


def outputs(given: Mapping[str, Sequence[Output]], everyone: Sequence[str], source: str) -> str:
    """What the code gave, once for all backends where it is the same."""
    alike: dict[tuple[Output, ...], list[str]] = {}
    for name, found in given.items():
        if found:
            alike.setdefault(tuple(found), []).append(name)
    panels = {
        tuple(names): "".join(_output(each, source) for each in found)
        for found, names in alike.items()
    }
    if set(panels) == {tuple(everyone)}:
        return f'<div class="given">{panels[tuple(everyone)]}</div>'
    return _panels("given", panels, {}) if panels else ""


def panel(names: Sequence[str], inside: str, place: str = "", markdown: bool = False) -> str:
    """What belongs to one framework or to some, under its name."""
    title = ", ".join(map(framework, names))
    where = f" <span>{html.escape(place)}</span>" if place else ""
    attribute = ' markdown="1"' if markdown else ""
    gap = "\n\n" if markdown else ""
    return (
        f'<div class="panel" data-for="{" ".join(names)}"{attribute}>{gap}'
        f'<p class="name"><b>{title}</b>{where}</p>{gap}{inside}{gap}</div>'
    )


def figure_name(picture: bytes) -> str:
    """Where a picture lies in the site, named by what it shows."""
    return f"figures/{hashlib.sha256(picture).hexdigest()[:16]}.png"


def _panels(
    kind: str, panels: Mapping[tuple[str, ...], str], places: Mapping[tuple[str, ...], str]
) -> str:
    inside = "".join(panel(names, one, places.get(names, "")) for names, one in panels.items())
    return f'<div class="{kind}">{inside}</div>'


def _output(output: Output, source: str) -> str:
    if output.picture:
        axes = [re.search(rf'plt\.{axis}label\("(.*?)"', source) for axis in ("y", "x")]
        words = " against ".join(found.group(1) for found in axes if found)
        return (
            f'<img src="{figure_name(output.picture)}" loading="lazy" '
            f'alt="What the code above draws: {html.escape(words)}">'
        )
    text = html.escape(output.text.rstrip("\n"), quote=False).replace("\n", BREAK)
    return f'<pre class="output" tabindex="0">{text}</pre>'
