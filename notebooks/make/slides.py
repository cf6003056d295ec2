"""Make lecture slides for the lessons: `python -m make.slides [NAME ...]`.

Run it from the repository root. The arguments are notebook names, such as numpy-build or
torch-learn-student; without arguments, it makes slides for all lessons. It writes one HTML file
per name to ``build/slides``.

The master text ``lessons/LESSON-slides.md`` uses the syntax of the lessons (see ``lessons``).
`# Title` begins the first slide, and `## Title` every other slide. A slide has at most one figure
and at most ten lines of code or output:

```` ```python ````   code, which is not executed
``::: piece encode``  a function's source, without its docstring or helpers
``::: figure NAME``   the picture from the lesson cell with the comment "# Figure NAME: ..."
``::: output CODE``   the text printed by the lesson's only cell that contains CODE
``::: only torch`` ... ``:::``  slides, or part of a slide, for these backends only
``::: solution`` ... ``:::``    slides that the student variant omits; they follow "Your turn"
"""

import base64
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from rnn_scratch.errors import RNNScratchError

from . import lessons, notebooks, prose, site_code, site_lessons
from .lessons import Part
from .site_code import Output

SLIDES = Path("build/slides")
DOCSTRING = re.compile(r'^ +""".*?"""\n', re.MULTILINE | re.DOTALL)


def slides(name: str) -> list[str]:
    """Return a lesson's slides as HTML; every slide begins with a heading."""
    backend, lesson, *student = name.split("-")
    outputs = site_lessons.read_outputs(f"{backend}-{lesson}")
    parts = _select(lessons.read_parts(f"{lesson}-slides"), backend, bool(student))
    text = "\n\n".join(_markdown(part, backend, outputs) for part in parts)
    return re.split("(?=<h[12]>)", _converter().render(text))[1:]


def _select(parts: Sequence[Part], backend: str, student: bool) -> Iterator[Part]:
    """Yield the backend's parts, including the content of blocks; for students, omit solutions."""
    for part in parts:
        if not lessons.is_for_backend(part, backend) or (student and part.kind == "solution"):
            continue
        if part.kind in lessons.BLOCKS:
            yield from _select(part.content, backend, student)
        else:
            yield part


def _markdown(part: Part, backend: str, outputs: Mapping[str, Sequence[Output]]) -> str:
    if part.kind == "text":
        return prose.fill("\n".join(part.content), backend)
    if part.kind == "piece":
        source = lessons.find(backend, *part.argument.split())[0].source
        return f"```python\n{DOCSTRING.sub('', source, count=1)}\n```"
    if part.kind not in lessons.SLIDES:
        code = lessons.make_code(part, backend, set())
        return f"```{code.language}\n{code.source}\n```" if code else ""
    text = f"# Figure {part.argument}:" if part.kind == "figure" else part.argument
    found = [source for source in outputs if text in source]
    if len(found) != 1:
        raise RNNScratchError(f"Line {part.line}: {len(found)} cells contain {text!r}, not 1.")
    if part.kind == "output":
        printed = "".join(output.text for output in outputs[found[0]])
        return f"```text\n{printed.rstrip()}\n```"
    picture = next(output.picture for output in outputs[found[0]] if output.picture)
    data = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return f'<figure><img alt="{site_code.alt_text(found[0])}" src="{data}"></figure>'


def _converter() -> MarkdownIt:
    """Return a Markdown converter; the `site` extra installs the packages that it requires."""
    from latex2mathml import converter
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def formula(latex: str, options: dict[str, Any]) -> str:
        display = "block" if options["display_mode"] else "inline"
        return str(converter.convert(latex, display=display))

    def code(source: str, language: str, _: str) -> str:
        return highlight(source, get_lexer_by_name(language), HtmlFormatter(nowrap=True))

    markdown = MarkdownIt("commonmark", {"highlight": code}).enable("table")
    return markdown.use(dollarmath_plugin, renderer=formula)


def make(name: str) -> Path:
    """Write a lesson's slides to a self-contained file; return the file's path."""
    text = prose.TEMPLATES.get_template("slides.html").render(
        slides=slides(name),
        colors=HtmlFormatter().get_style_defs("pre"),
        font=base64.b64encode(prose.formula_font()).decode(),
    )
    SLIDES.mkdir(parents=True, exist_ok=True)
    file = SLIDES / f"{name}.html"
    file.write_text(text, encoding="utf-8")
    return file


def main() -> None:
    """Make the slides named on the command line, or slides for all lessons."""
    for name in sys.argv[1:] or [n for n in notebooks.ALL if n not in notebooks.MULTI_BACKEND]:
        print(f"made {make(name)}")


if __name__ == "__main__":
    main()
