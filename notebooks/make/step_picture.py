"""The README's picture of one time step in NumPy and PyTorch, in two columns.

Docstrings and comments are omitted, so that the code is large enough to read.
"""

import html
import re
from collections.abc import Iterator

from pygments.lexers import PythonLexer
from pygments.token import Keyword, Name, String

from . import site_code
from .prose import framework

BACKENDS = ("numpy", "torch")
LINE, CHARACTER, MARGIN = 20, 7.9, 14  # pixels, for the widest common font at 13 pixels
STYLES = {
    "step.svg": {
        "ground": "#ffffff",
        "edge": "#d0d7de",
        "text": "#1f2328",
        "differs": "#ffe9a8",
        "name": "#59636e",
        "keyword": "#cf222e",
        "string": "#0a3069",
    },
    "step-dark.svg": {
        "ground": "#0d1117",
        "edge": "#3d444d",
        "text": "#f0f6fc",
        "differs": "#5c4a12",
        "name": "#9198a1",
        "keyword": "#ff7b72",
        "string": "#a5d6ff",
    },
}
KINDS = {Keyword: "keyword", String: "string"}
OMITTED = re.compile(r'^    """.*"""\n|  # .*$', re.MULTILINE)
Styled = tuple[str, str, bool]  # text, style, and whether the other column lacks this name


def step_picture() -> dict[str, bytes]:
    """Return the picture as SVG for light and dark backgrounds, keyed by file name."""
    codes = site_code.find_code(BACKENDS, "rnn", "step")
    sources = [OMITTED.sub("", code.source) for code in codes.values()]
    rows = site_code.rows(sources)
    names = [_names(source) for source in sources]
    columns = [
        [*zip(line_numbers, _lines(source, names[1 - number]))]
        for number, (source, line_numbers) in enumerate(zip(sources, rows))
    ]
    return {name: _svg(columns, style).encode() for name, style in STYLES.items()}


def _names(source: str) -> set[str]:
    return {text for kind, text in PythonLexer().get_tokens(source) if kind in Name}


def _lines(source: str, other_names: set[str]) -> Iterator[list[Styled]]:
    line: list[Styled] = []
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        style = next((style for token, style in KINDS.items() if kind in token), "text")
        differs = kind in Name and text not in other_names
        first, *rest = text.split("\n")
        if line and line[-1][1:] == (style, differs):  # merge text of the same style
            line[-1] = (line[-1][0] + first, style, differs)
        else:
            line.append((first, style, differs))
        for part in rest:
            yield line
            line = [(part, style, differs)]
    yield line


def _svg(columns: list[list[tuple[int, list[Styled]]]], style: dict[str, str]) -> str:
    longest = max(sum(len(t) for t, _, _ in line) for column in columns for _, line in column)
    width = longest * CHARACTER + 2 * MARGIN
    height = (max(row for column in columns for row, _ in column) + 3) * LINE + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width:.0f}" height="{height}" '
        f'viewBox="0 0 {2 * width:.0f} {height}" font-size="13" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace">',
        f'<rect x="0.5" y="0.5" width="{2 * width - 1:.0f}" height="{height - 1}" rx="6" '
        f'fill="{style["ground"]}" stroke="{style["edge"]}"/>',
        f'<path d="M{width:.0f} 0V{height}" stroke="{style["edge"]}"/>',
    ]
    for number, (backend, column) in enumerate(zip(BACKENDS, columns)):
        left = number * width + MARGIN
        parts.append(_text(left, LINE, framework(backend), style["name"], bold=True))
        for row, line in column:
            top, position = (row + 2.5) * LINE, 0
            for text, kind, differs in line:
                x = left + position * CHARACTER
                size = len(text) * CHARACTER
                if differs:
                    parts.append(
                        f'<rect x="{x:.1f}" y="{top - 15:.1f}" width="{size:.1f}" height="{LINE}" '
                        f'rx="2" fill="{style["differs"]}"/>'
                    )
                if text.strip():
                    parts.append(_text(x, top, text, style[kind]))
                position += len(text)
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, text: str, color: str, bold: bool = False) -> str:
    # `textLength` makes the text equally wide in every font.
    weight = ' font-weight="bold"' if bold else ""
    size = "" if bold else f' textLength="{len(text) * CHARACTER:.1f}"'
    content = html.escape(text, quote=False).replace(" ", "&#160;")
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}"{size}{weight}>{content}</text>'
