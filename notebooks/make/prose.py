"""Prose: templates filled with values, links to lessons, formulas, and names of frameworks.

The pages in ``pages`` are Jinja2 templates; ``templates`` has parts of several pages, the README's
results and the interactive parts of the site. In lessons ``{backend}``, ``{framework}`` and
``{install}`` stand for the names of the backend and its framework, and for the extras to install.
"""

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rnn_scratch import registry
from rnn_scratch.errors import RNNScratchError

PAGES = Path(__file__).with_name("pages")
LESSONS = Path("notebooks/lessons")
PLACEHOLDER = re.compile(r"\{(backend|framework|install)\}")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# Code between backticks, a displayed formula, a formula in a line; in this order.
SPANS = re.compile(r"(`[^`]+`)|\$\$(.+?)\$\$|\$([^$]+)\$", re.DOTALL)
# Glyphs for formulas: Latin, Greek, accents and punctuation; letterlike symbols, arrows and
# operators; italic letters, Latin and Greek.
GLYPHS = [
    *((0x20, 0x7F), (0xA0, 0x180), (0x300, 0x340), (0x391, 0x3F6), (0x2010, 0x2040)),
    *((0x2102, 0x2136), (0x2190, 0x2300), (0x1D434, 0x1D468), (0x1D6FC, 0x1D71C)),
]
Typeset = Callable[[str, str], str]  # LaTeX and "inline" or "block" to HTML
Cells = Sequence[Sequence[str]]  # rows of a table; row 0 is its head


def framework(backend: str) -> str:
    """Return the name of a backend's framework, or of the backend if it is another package's."""
    return {"numpy": "NumPy", **registry.FRAMEWORKS}.get(backend, backend)


def fill(text: str, backend: str) -> str:
    """Replace a text's placeholders for one backend."""
    # Unlike the frameworks, NumPy has no built-in communication library.
    extras = "[notebooks,workers]" if backend == "numpy" else f"[{backend},notebooks]"
    values = {"backend": backend, "framework": framework(backend), "install": f".{extras}"}
    return PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence lists them: "A, B and C"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def table(cells: Cells) -> str:
    """Return a table in Markdown."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([head, "|" + "---|" * len(cells[0]), *rows])


TEMPLATES = Environment(
    loader=FileSystemLoader([PAGES, Path(__file__).with_name("templates")]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"framework": framework, "listed": listed, "table": table}


def mathml(latex: str, display: str) -> str:
    """Return a formula as MathML, which browsers display without a script."""
    from latex2mathml import converter  # installed with the extra `site`

    return str(converter.convert(latex, display=display))


def formula_font() -> bytes:
    """Return the font of the formulas, STIX Two Math, as WOFF with only the needed glyphs.

    With a text font, or a device without a font for mathematics, a browser lets no bracket grow.
    """
    from fontTools import subset  # installed with Matplotlib

    whole = resources.files("ziamath.fonts") / "STIXTwoMath-Regular.ttf"  # extra `site`
    options = subset.Options(flavor="woff", name_IDs=["*"])  # its licence is among its names
    with resources.as_file(whole) as path:
        font = subset.load_font(path, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[number for first, last in GLYPHS for number in range(first, last)])
    subsetter.subset(font)
    content = BytesIO()
    subset.save_font(font, content, options)
    return content.getvalue()


def page(name: str, values: Mapping[str, Any]) -> str:
    """Fill the template of a page with values."""
    return TEMPLATES.get_template(name).render(values).strip("\n") + "\n"


def linked(text: str) -> str:
    """Replace links to the site's pages of lessons by links to notebooks, which GitHub displays."""

    def link(match: re.Match[str]) -> str:
        lesson, anchor = match[1], match[2] or ""
        if lesson == "bugs":
            lesson, anchor = "build", "spot-the-bug"
        fragment = f"#{heading_of(lesson, anchor).replace(' ', '-')}" if anchor else ""
        return f"](../torch/{lesson}.ipynb{fragment})"

    return re.sub(r"\]\((build|gates|learn|fast|bugs)\.md(?:#([\w-]+))?\)", link, text)


def heading_of(lesson: str, anchor: str) -> str:
    """Return the heading of a lesson whose anchor this is; raise RNNScratchError without one."""
    text = (LESSONS / f"{lesson}.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE):
        if slug(heading) == anchor:
            return heading
    raise RNNScratchError(f"The lesson {lesson} has no heading with the anchor {anchor!r}.")


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render(text: str, backends: Sequence[str], typeset: Typeset) -> str:
    """Render prose for these backends; fenced code stays as it is."""
    return outside_fences(text, lambda part: _prose(part, backends, typeset))


def outside_fences(text: str, function: Callable[[str], str]) -> str:
    """Apply a function to the parts of a text outside of fenced code."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [function(text[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, function(text[end:])])


def _prose(text: str, backends: Sequence[str], typeset: Typeset) -> str:
    lines = []
    for line in text.split("\n"):
        if line.startswith("#"):  # a heading is also an entry of the table of contents
            line = re.sub(r", in \{framework\}$", "", line).replace("$", "")
            line = re.sub(r" ?\\cdot ?", "·", line)
        lines.append(line)

    def span(match: re.Match[str]) -> str:
        code, block, inline = match.groups()
        if code:
            if not PLACEHOLDER.search(code):
                return str(code)
            words = _names(html.escape(code[1:-1]), backends)
            return f'<code class="docutils literal">{words}</code>'
        if block:
            return f'<span class="formula">{typeset(block.strip(), "block")}</span>'
        # In a span: Markdown would end the paragraph at a line that begins with <math>.
        return f"<span>{typeset(inline.strip(), 'inline')}</span>"

    return _names(SPANS.sub(span, "\n".join(lines)), backends)


def _names(text: str, backends: Sequence[str]) -> str:
    # A name that depends on the framework: all of them, of which a script leaves those on display.
    def name(match: re.Match[str]) -> str:
        terms = {backend: fill(match.group(), backend) for backend in backends}
        if len(terms) == 1:
            return html.escape(next(iter(terms.values())))
        data = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in terms.items())
        return f'<span class="term" {data}>{html.escape(" / ".join(terms.values()))}</span>'

    return PLACEHOLDER.sub(name, text)
