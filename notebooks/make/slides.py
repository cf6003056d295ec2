"""Make slides from the cells of the lessons' notebooks: `python -m make.slides [NAME ...]`.

Run it in the folder of the clone, with names such as numpy-build, or without names for all
lessons. It writes one self-contained HTML file per lesson to ``build/slides``, whose script
distributes each section's content over slides. Slides show marked sentences and outputs, formulas,
lists, tables, functions and figures. The full text is in the notes, which the S key shows.
"""

import ast
import base64
import functools
import html
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from rnn_scratch import registry

from . import lessons, prose, site_code
from .lessons import LESSONS, MARKS, notebook_path

SLIDES = Path("build/slides")
LONG_FORMULA, SHORT_CODE = 120, 9  # characters of LaTeX; lines of code that precede their output
Cell = tuple[str, list[Any] | None]  # source and, for code, outputs
STRUCTURED = ("- ", "|", "1. ")  # prefixes of lists and tables


class Section(NamedTuple):
    """A section of a lesson: its title, the HTML of its parts, and notes with its text."""

    title: str
    parts: list[str]
    notes: list[str]


def marked_cells(name: str) -> list[Cell]:
    """Return a lesson's cells with marks from the master text and outputs from the notebook."""
    notebook = json.loads(notebook_path(name).read_text(encoding="utf-8"))
    outputs = {"".join(c["source"]): c["outputs"] for c in notebook["cells"] if "outputs" in c}
    backend, lesson = name.split("-")
    cells = lessons.cells(lessons.read_parts(lesson), backend, marked=True)
    return [(source, outputs.get(source, []) if kind == "code" else None) for kind, source in cells]


def sections(cells: Iterable[Cell]) -> list[Section]:
    """Return the sections of a notebook that have content for slides."""
    found, previous = [Section("", [], [])], ""
    for source, outputs in _blocks(cells):
        title, parts, notes = found[-1]
        if outputs is not None:
            # Omit code and figures of exercises: they show the solution.
            if not re.match(r"[0-9]\.", title):
                content = list(_code(source, outputs, previous.endswith("<!--output-->")))
                if content and parts and parts[-1].startswith("<h2>"):
                    content[0] = parts.pop() + content[0]
                parts += content
            continue
        if re.fullmatch("#+ [A-Z]", source):  # subsections A, B, ... share a slide
            parts.append(f"<h2>{source[-1]}</h2>")
        elif re.match("#+ ", source):
            found.append(Section(_html(source.lstrip("# ")), [], []))
        elif source.startswith(("$$", *STRUCTURED)):
            small = len(source) > LONG_FORMULA if source[0] == "$" else source[0] == "|"
            parts.append(f'<div class="small">{_html(source)}</div>' if small else _html(source))
        elif not source.startswith(("```", "<", "    ")):
            parts += _marked(source)
            notes.append(_html(MARKS.sub("", source)))
        previous = source
    return [section for section in found if section.parts]


def _blocks(cells: Iterable[Cell]) -> Iterator[Cell]:
    # Yield each code cell with its outputs, and each block of text with None. Empty lines separate
    # blocks, except in fenced code.
    for source, outputs in cells:
        if outputs is not None:
            yield source, outputs
            continue
        lines, fenced = list[str](), False
        for line in [*source.split("\n"), ""]:
            fenced ^= line.startswith("```")
            if line or fenced:
                lines.append(line)
            elif lines:
                yield "\n".join(lines), None
                lines = []


def _code(source: str, outputs: list[Any], printed: bool) -> Iterator[str]:
    # Yield functions, figures and, if `printed`, text outputs (with their code if it is short).
    functions = all(isinstance(node, ast.FunctionDef) for node in ast.parse(source).body)
    if functions:
        yield from map(_highlighted, source.split("\n\n\n"))
    for output in outputs:
        data = output.get("data", {})
        if image := data.get("image/png"):
            src = "data:image/png;base64," + "".join(image).replace("\n", "")
            yield f'<figure><img alt="{site_code.alt_text(source)}" src="{src}"></figure>'
        elif printed:
            if not functions and source.count("\n") < SHORT_CODE:
                yield _highlighted(source)
            text = "".join(output.get("text") or data["text/plain"]).rstrip()
            yield f'<div class="code output"><pre>{html.escape(text)}</pre></div>'


def _highlighted(source: str) -> str:
    return highlight(source, PythonLexer(), HtmlFormatter(cssclass="code"))


def _marked(text: str) -> list[str]:
    sentences = re.split(r"(?<=[.!?>])\s+(?=[A-Z`*$(])", " ".join(text.split()))
    selected = (sentence for sentence in sentences if "<!--slide-->" in sentence)
    marked = " ".join(MARKS.sub("", sentence) for sentence in selected)
    return [f"<p>{_html(marked)}</p>"] if marked else []


def _html(text: str) -> str:
    """Convert Markdown to HTML, and its formulas to MathML."""
    is_block = "\n" in text or text.startswith(("- ", "$$"))
    return _markdown().render(text) if is_block else _markdown().renderInline(text)


@functools.cache
def _markdown() -> MarkdownIt:
    # These packages come with the `site` extra.
    from latex2mathml import converter
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def formula(latex: str, options: dict[str, Any]) -> str:
        display = "block" if options["display_mode"] else "inline"
        return str(converter.convert(latex, display=display))

    return MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=formula)


def make(name: str) -> Path:
    """Write the slides of a lesson's notebook; return the path of the file."""
    text = prose.TEMPLATES.get_template("slides.html").render(
        sections=sections(marked_cells(name)),
        colors=HtmlFormatter(cssclass="code").get_style_defs(),
        font=base64.b64encode(prose.formula_font()).decode(),
    )
    SLIDES.mkdir(parents=True, exist_ok=True)
    file = SLIDES / f"{name}.html"
    file.write_text(text, encoding="utf-8")
    return file


def main() -> None:
    """Make the slides of the notebooks named on the command line, or of all lessons."""
    names = [f"{backend}-{lesson}" for backend in registry.BUILTIN_BACKENDS for lesson in LESSONS]
    for name in sys.argv[1:] or names:
        print(f"made {make(name)}")


if __name__ == "__main__":
    main()
