"""Makes slides of lessons from the cells of their notebooks: `python -m make.slides NAME`.

It runs in the folder of the clone, with names such as numpy-build, or none for all lessons whose
notebooks there are, and writes to ``build/slides``: for each lesson one HTML file, which loads
nothing. A section of the lesson is a slide, or several if it does not fit on one. On them are its
marked sentences and outputs, formulas, lists, tables, functions and pictures. All of its text is in
the notes, which the key S shows.
"""

import argparse
import ast
import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from rnn_scratch import registry

from . import prose
from .lessons import LESSONS, MARKS, TEXTS

SLIDES, TEMPLATES = Path("build/slides"), Path(__file__).parent / "templates"
# Pixels of a slide's height, of the template's fonts.
ROOM, GAP, LINE, CODE_LINE, FORMULA, PICTURE = 585, 16, 40, 26, 75, 260
WIDTH, LONG_LINE, LONG_FORMULA = 85, 100, 120  # characters of text, of code, and of LaTeX
STRUCTURED = ("- ", "|", "1. ")  # how a list or a table begins
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Part(NamedTuple):
    """Something on a slide: HTML, and its height."""

    content: str
    height: int


class Slide(NamedTuple):
    """A slide: the title of its section, what is on it, and the text of the section."""

    title: str
    parts: list[Part]
    notes: list[str]


def slides(notebook: dict[str, Any]) -> Iterator[Slide]:
    """Yield the slides of a notebook's sections."""
    title, parts, texts, letter, before = "", list[Part](), list[str](), "", ""
    for source, outputs in _blocks(notebook):
        heading = re.match("(#+) ", source) if outputs is None else None
        if heading and re.fullmatch("#+ [A-Z]", source):  # beside others on a slide
            letter = f"<h2>{source[-1]}</h2>"
        elif heading:
            yield from _packed(title, parts, texts)
            title, parts, texts = _html(source.lstrip("# ")), [], []
        elif outputs is not None:
            for part in _code(source, outputs, before.endswith("<!--output-->")):
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
            texts.append(MARKS.sub("", source))
        before = source if outputs is None else before
    yield from _packed(title, parts, texts)


def _packed(title: str, parts: list[Part], texts: list[str]) -> Iterator[Slide]:
    # The parts of a section on as few slides as they fit on, in their order.
    if re.match(r"[0-9]\.", title):  # an exercise: code and pictures are its solution
        parts = [part for part in parts if part.content.startswith("<p>")]
    pages: list[list[Part]] = []
    for part in parts:
        if not pages or sum(each.height + GAP for each in pages[-1]) + part.height > ROOM:
            pages.append([])
        pages[-1].append(part)
    for number, page in enumerate(pages):
        yield Slide(title, page, [] if number else list(map(_html, texts)))


def _blocks(notebook: dict[str, Any]) -> Iterator[tuple[str, list[Any] | None]]:
    # Cells of code with their outputs, and of text what is between empty lines; code between
    # fences is one block.
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
    # Functions, and the pictures that are drawn; not the experiments around them.
    if all(isinstance(node, ast.FunctionDef) for node in ast.parse(source).body):
        for function in source.split("\n\n\n"):
            code = highlight(function, PythonLexer(), HtmlFormatter(cssclass="code"))
            yield Part(code, CODE_LINE * (function.count("\n") + 1) + 20)
    figure = re.match(r"# Figure [\w-]+: (.*(?:\n#.*)*)", source)
    alt = html.escape(" ".join(figure[1].replace("\n#", "").split()) if figure else "")
    for output in outputs:
        data = output.get("data", {})
        if image := data.get("image/png"):
            src = "data:image/png;base64," + "".join(image).replace("\n", "")
            yield Part(f'<figure><img alt="{alt}" src="{src}"></figure>', PICTURE)
        elif printed:
            text = "".join(output.get("text") or data["text/plain"]).rstrip()
            rows = sum(1 + len(line) // LONG_LINE for line in text.split("\n"))
            content = f'<div class="code"><pre>{html.escape(text)}</pre></div>'
            yield Part(content, CODE_LINE * rows + 20)


def _marked(text: str) -> list[Part]:
    sentences = re.split(r"(?<=[.!?>])\s+(?=[A-Z`*$(])", " ".join(text.split()))
    marked = " ".join(MARKS.sub("", each) for each in sentences if "<!--slide-->" in each)
    return [Part(f"<p>{_html(marked)}</p>", LINE * (1 + len(marked) // WIDTH))] if marked else []


def _html(text: str) -> str:
    """Return Markdown as HTML, formulas as MathML."""
    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        display = "block" if match[1] else "inline"
        formulas.append(prose.mathml(match[1] or match[2], display))
        return f"FORMULA{len(formulas) - 1}X"

    marked = re.sub(r"\$\$(.+?)\$\$|\$(.+?)\$", keep, text, flags=re.DOTALL)
    made = MARKDOWN.render(marked) if "\n" in text or text[:2] in STRUCTURED else ""
    made = made or MARKDOWN.renderInline(marked)
    return re.sub(r"FORMULA(\d+)X", lambda number: formulas[int(number[1])], made)


def make(name: str) -> Path:
    """Write the slides of a lesson's notebook; the file."""
    notebook = json.loads((TEXTS / f"{name}.ipynb").read_text(encoding="utf-8"))
    templates = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True)
    text = templates.get_template("slides.html").render(
        slides=list(slides(notebook)),
        colors=HtmlFormatter(cssclass="code").get_style_defs(),
        font=base64.b64encode(prose.formula_font()).decode(),
    )
    SLIDES.mkdir(parents=True, exist_ok=True)
    file = SLIDES / f"{name}.html"
    file.write_text(text, encoding="utf-8")
    return file


def main() -> None:
    """Make the slides of the notebooks named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m make.slides")
    everything = [f"{backend}-{lesson}" for backend in registry.OURS for lesson in LESSONS]
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *everything])
    there = [name for name in everything if (TEXTS / f"{name}.ipynb").exists()]
    for name in parser.parse_args().names or there:
        print(f"made {make(name)}")


if __name__ == "__main__":
    main()
