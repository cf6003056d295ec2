"""Make slides from the cells of the lessons' notebooks: `python -m make.slides [NAME ...]`.

Run it in the folder of the clone, with names such as numpy-build, or without names for all
lessons. It writes one self-contained HTML file per lesson to ``build/slides``. A section becomes a
slide, or several slides if its content does not fit. Slides show marked sentences and outputs,
formulas, lists, tables, functions and figures. The full text is in the notes, which the S key
shows.
"""

import ast
import base64
import functools
import html
import json
import re
import sys
from collections.abc import Iterator
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
# Heights in pixels, with the template's fonts.
ROOM, GAP, LINE, HEADING, CODE_LINE, FORMULA, PICTURE = 585, 16, 40, 80, 26, 75, 292
WIDTH, LONG_LINE, LONG_FORMULA = 85, 100, 120  # lengths in characters: text, output, LaTeX
SHORT_CODE = 9  # maximum number of lines of code that a slide shows above its output
STRUCTURED = ("- ", "|", "1. ")  # prefixes of lists and tables


class Part(NamedTuple):
    """An element of a slide: HTML and its height in pixels."""

    content: str
    height: int


class Slide(NamedTuple):
    """A slide: the title of its section, its parts, and notes with the text of the section."""

    title: str
    parts: list[Part]
    notes: list[str]


def marked_notebook(name: str) -> dict[str, Any]:
    """Return a lesson's cells with marks from the master text and outputs from the notebook."""
    notebook = json.loads(notebook_path(name).read_text(encoding="utf-8"))
    outputs = {"".join(c["source"]): c["outputs"] for c in notebook["cells"] if "outputs" in c}
    backend, lesson = name.split("-")
    cells = lessons.cells(lessons.read_parts(lesson), backend, marked=True)
    return {
        "cells": [
            {"cell_type": kind, "source": source, "outputs": outputs.get(source, [])}
            for kind, source in cells
        ]
    }


def slides(notebook: dict[str, Any]) -> list[Slide]:
    """Return the slides of a notebook; a slide with only text joins the previous one if it fits."""
    joined: list[Slide] = []
    for slide in _sections(notebook):
        is_sentence = len(slide.parts) == 1 and slide.parts[0].content.startswith("<p>")
        last = joined[-1].parts if joined else []
        height = sum(part.height + GAP for part in last) + slide.parts[0].height + HEADING
        if not (is_sentence and joined and height <= ROOM):
            joined.append(slide)
            continue
        heading = "" if slide.title == joined[-1].title else f"<h2>{slide.title}</h2>"
        last.append(Part(heading + slide.parts[0].content, slide.parts[0].height + HEADING))
        joined[-1].notes.extend(slide.notes)
    return joined


def _sections(notebook: dict[str, Any]) -> Iterator[Slide]:
    title, parts, paragraphs, letter, previous = "", list[Part](), list[str](), "", ""
    for source, outputs in _blocks(notebook):
        heading = re.match("(#+) ", source) if outputs is None else None
        if heading and re.fullmatch("#+ [A-Z]", source):  # subsections A, B, ... share a slide
            letter = f"<h2>{source[-1]}</h2>"
        elif heading:
            yield from _packed(title, parts, paragraphs)
            title, parts, paragraphs = _html(source.lstrip("# ")), [], []
        elif outputs is not None:
            for part in _code(source, outputs, previous.endswith("<!--output-->")):
                parts.append(Part(letter + part.content, part.height + LINE * bool(letter)))
                letter = ""
        elif source.startswith(("$$", *STRUCTURED)):
            formula = source.startswith("$$")
            rows = source.count("\\\\") if formula else source.count("\n") + 1
            small = len(source) > LONG_FORMULA if formula else source.startswith("|")
            content = f'<div class="small">{_html(source)}</div>' if small else _html(source)
            parts.append(Part(content, FORMULA * formula + LINE * rows))
        elif not source.startswith(("```", "<", "    ")):
            parts += _marked(source)
            paragraphs.append(MARKS.sub("", source))
        previous = source if outputs is None else previous
    yield from _packed(title, parts, paragraphs)


def _packed(title: str, parts: list[Part], paragraphs: list[str]) -> Iterator[Slide]:
    # Distribute the parts of a section, in order, over as few slides as possible.
    if re.match(r"[0-9]\.", title):  # omit code and figures of exercises: they show the solution
        parts = [part for part in parts if part.content.startswith("<p>")]
    pages: list[list[Part]] = []
    for part in parts:
        if not pages or sum(p.height + GAP for p in pages[-1]) + part.height > ROOM:
            # Keep a formula with the preceding sentence, and an output with its code.
            last = pages[-1] if pages else []
            output = "<pre>" in part.content and "<span" not in part.content
            joined = len(last) > 1 and last[-1].height + GAP + part.height <= ROOM
            joined = joined and (output or 'display="block"' in part.content)
            pages.append([last.pop()] if joined else [])
        pages[-1].append(part)
    for index, page in enumerate(pages):
        yield Slide(title, page, [] if index else list(map(_html, paragraphs)))


def _blocks(notebook: dict[str, Any]) -> Iterator[tuple[str, list[Any] | None]]:
    # Yield each code cell with its outputs, and each block of text with None. Empty lines separate
    # blocks, except in fenced code.
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"]), cell["outputs"]
            continue
        lines, fenced = list[str](), False
        for line in [*"".join(cell["source"]).split("\n"), ""]:
            fenced ^= line.startswith("```")
            if line or fenced:
                lines.append(line)
            elif lines:
                yield "\n".join(lines), None
                lines = []


def _code(source: str, outputs: list[Any], printed: bool) -> Iterator[Part]:
    # Yield functions, figures and, if `printed`, text outputs (with their code if it is short).
    functions = all(isinstance(node, ast.FunctionDef) for node in ast.parse(source).body)
    if functions:
        yield from map(_highlighted, source.split("\n\n\n"))
    alt = site_code.alt_text(source)
    for output in outputs:
        data = output.get("data", {})
        if image := data.get("image/png"):
            src = "data:image/png;base64," + "".join(image).replace("\n", "")
            yield Part(f'<figure><img alt="{alt}" src="{src}"></figure>', PICTURE)
        elif printed:
            if not functions and source.count("\n") < SHORT_CODE:
                yield _highlighted(source)
            text = "".join(output.get("text") or data["text/plain"]).rstrip()
            rows = sum(1 + len(line) // LONG_LINE for line in text.split("\n"))
            content = f'<div class="code"><pre>{html.escape(text)}</pre></div>'
            yield Part(content, CODE_LINE * rows + 20)


def _highlighted(source: str) -> Part:
    code = highlight(source, PythonLexer(), HtmlFormatter(cssclass="code"))
    return Part(code, CODE_LINE * (source.count("\n") + 1) + 20)


def _marked(text: str) -> list[Part]:
    sentences = re.split(r"(?<=[.!?>])\s+(?=[A-Z`*$(])", " ".join(text.split()))
    selected = (sentence for sentence in sentences if "<!--slide-->" in sentence)
    marked = " ".join(MARKS.sub("", sentence) for sentence in selected)
    return [Part(f"<p>{_html(marked)}</p>", LINE * (1 + len(marked) // WIDTH))] if marked else []


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
        slides=slides(marked_notebook(name)),
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
