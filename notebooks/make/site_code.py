"""Code and its outputs as HTML: a panel for each framework, with aligned lines.

Without JavaScript, the panels appear one after another, under their framework names. Every line
of code has a row number, which aligns it across columns. The HTML uses entities instead of line
breaks, so that Markdown does not change it.
"""

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from rnn_scratch.show import alignment, source_code

from .lessons import Code, location
from .prose import framework

BREAK = "&#10;"
FIGURE = re.compile(r"^# Figure ([\w-]+): (.*(?:\n# .*)*)", re.MULTILINE)  # groups: name, alt text
DOCSTRING = re.compile(r'^ *"""(.*?)"""\n', re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"((?:# .*\n)+)")
STATIC = "_static"  # folder of styles, scripts and pictures


@dataclass(frozen=True)
class Output:
    """A cell output: text or a PNG picture."""

    text: str = ""
    picture: bytes = b""


def find_code(backends: Sequence[str], *names: str) -> dict[str, Code]:
    """Map each backend that defines any of the named functions to their code, excluding helpers."""
    codes = {}
    for backend in backends:
        pieces = [piece for name in names for piece in source_code.find(backend, name)[:1]]
        if pieces:
            source = "\n\n\n".join(piece.source for piece in pieces)
            codes[backend] = Code(source, location=location(pieces[-1]))
    return codes


def rows(sources: Sequence[str]) -> list[list[int]]:
    """Return a row number for each line of each source; corresponding lines share a number.

    Only lines of functions with the same name are aligned.
    """
    tables = alignment.align_functions(
        [[(_name(text), text) for text in source.split("\n\n\n")] for source in sources]
    )
    line_numbers: list[list[int]] = [[] for _ in sources]
    start = 0
    for table in tables:
        end = start + len(table)
        for rows_of_code, column in zip(line_numbers, zip(*table)):
            lines = [start + number for number, line in enumerate(column) if line is not None]
            rows_of_code += [*lines, end, end + 1] if lines else []  # two blank lines
        start = end + 2
    return [rows_of_code[:-2] for rows_of_code in line_numbers]  # drop trailing blank lines


def _name(text: str) -> str:
    """Return the name of the function or class that a section of code defines, or "" if none."""
    match = re.search(r"^(?:def|class) (\w+)", text, re.MULTILINE)
    return match.group(1) if match else ""


def block(code: Code, line_rows: Sequence[int] | None = None) -> str:
    """Return highlighted code as HTML, one span per line; `line_rows` gives each line's row."""
    lexer = get_lexer_by_name(code.language, stripnl=False, ensurenl=False)
    # Lines can be split, because the formatter closes spans. The diff lexer needs a final newline.
    text = highlight(f"{code.source}\n", lexer, HtmlFormatter(nowrap=True))
    lines = text.split("\n")[: len(code.source.split("\n"))]
    spans = []
    for number, line in enumerate(lines):
        row = "" if line_rows is None else f' style="--row:{line_rows[number] + 1}"'
        spans.append(f'<span class="line"{row}>{line}{BREAK}</span>')
    return f'<div class="highlight"><pre tabindex="0"><code>{"".join(spans)}</code></pre></div>'


def annotated(source: str) -> str:
    """Return a program as HTML, each section's docstring or first comment next to its code."""
    rows = []
    for prose, code in sections(source):
        note = f'<div class="note">\n\n{prose}\n\n</div>'
        rows.append(f'<div class="section">\n{note}\n{block(Code(code))}\n</div>')
    return '<div class="annotated">\n' + "\n".join(rows) + "\n</div>"


def sections(source: str) -> list[tuple[str, str]]:
    """Divide a program into pairs of prose and code; each function or comment starts a section."""
    pairs = []
    for text in re.split(r"\n\n+(?=# |@|def )", source.rstrip()):
        match = COMMENT.match(text) or DOCSTRING.search(text)
        if match is None:
            raise ValueError(f"a section has neither a comment nor a docstring: {text}")
        prose = re.sub(r"(?m)^(?:# |    )", "", match[1])
        pairs.append((prose, (text[: match.start()] + text[match.end() :]).strip("\n")))
    return pairs


def group(codes: Mapping[str, Code], backends: Sequence[str], kind: str = "pieces") -> str:
    """Return several backends' code as tabs or columns, or as one block if identical.

    The kind "pair" shows two columns regardless of the reader's selection.
    """
    if len(set(codes.values())) == 1:
        shared = block(next(iter(codes.values())))
        is_complete = set(codes) == set(backends)
        return shared if is_complete else _panels("same", {tuple(codes): shared}, {})
    aligned = rows([code.source for code in codes.values()])
    panels: dict[tuple[str, ...], str] = {
        (name,): block(code, code_rows) for (name, code), code_rows in zip(codes.items(), aligned)
    }
    return _panels(kind, panels, {(name,): code.location for name, code in codes.items()})


def outputs(results: Mapping[str, Sequence[Output]], backends: Sequence[str], source: str) -> str:
    """Return the outputs of `source` as HTML; identical outputs share a panel."""
    groups: dict[tuple[Output, ...], list[str]] = {}
    for name, result in results.items():
        if result:
            groups.setdefault(tuple(result), []).append(name)
    panels = {
        tuple(names): "".join(_output(output, source) for output in result)
        for result, names in groups.items()
    }
    link = ""
    if (figure := FIGURE.search(source)) and any(output.picture for output in sum(groups, ())):
        place = f"figure-{figure[1]}"
        link = f'<a class="place" id="{place}" href="#{place}" title="Link to this figure">#</a>'
    if set(panels) == {tuple(backends)}:
        return f'<div class="results">{link}{panels[tuple(backends)]}</div>'
    return link + _panels("results", panels, {}) if panels else ""


def panel(names: Sequence[str], content: str, place: str = "", markdown: bool = False) -> str:
    """Return content for some backends as a panel headed by their framework names."""
    title = ", ".join(map(framework, names))
    location = f" <span>{html.escape(place)}</span>" if place else ""
    gap = "\n\n" if markdown else ""
    return (
        f'<div class="panel" data-for="{" ".join(names)}">{gap}'
        f'<p class="name"><b>{title}</b>{location}</p>{gap}{content}{gap}</div>'
    )


def figure_name(picture: bytes) -> str:
    """Return a picture's path on the site; the file name is a digest of the picture."""
    return f"{STATIC}/figures/{hashlib.sha256(picture).hexdigest()[:16]}.png"


def alt_text(source: str) -> str:
    """Return the description in a cell's comment "# Figure NAME: ...", escaped, or ""."""
    figure = FIGURE.search(source)
    return html.escape(figure[2].replace("\n# ", " ")) if figure else ""


def _panels(
    kind: str, panels: Mapping[tuple[str, ...], str], places: Mapping[tuple[str, ...], str]
) -> str:
    content = "".join(panel(names, code, places.get(names, "")) for names, code in panels.items())
    return f'<div class="{kind}">{content}</div>'


def _output(output: Output, source: str) -> str:
    if output.picture:
        name = figure_name(output.picture)
        sizes = f'src="{name}" srcset="{name} 2x"'  # pictures have twice the display resolution
        return f'<figure><img {sizes} loading="lazy" alt="{alt_text(source)}"></figure>'
    text = html.escape(output.text.rstrip("\n"), quote=False).replace("\n", BREAK)
    return f'<pre class="output" tabindex="0">{text}</pre>'
