"""Tools for prose: templates, lesson links, formulas and framework names.

``pages`` has Jinja2 templates for pages; ``templates`` has templates for parts of pages,
README results, and interactive parts of the site. In lessons, ``{backend}``, ``{framework}``,
``{install}`` and ``{git}`` stand for a backend, its framework, and its pip requirements in a
clone and elsewhere.
"""

import html
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rnn_scratch import registry
from rnn_scratch.errors import RNNScratchError

PAGES = Path(__file__).with_name("pages")
LESSONS = Path(__file__).with_name("lessons")
PLACEHOLDER = re.compile(r"\{(backend|framework|install|git)\}")
REPOSITORY = "OWNER/NAME"  # name on GitHub; change it in a fork
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
# Code points of the glyphs in formulas: Latin, accents, Greek and punctuation; letterlike symbols,
# arrows and operators; italic Latin and Greek letters.
GLYPHS = "20-7E,A0-17F,300-33F,391-3F5,2010-203F,2102-2135,2190-22FF,1D434-1D467,1D6FC-1D71B"
Cells = Sequence[Sequence[str]]  # table rows, starting with the header


def framework(backend: str) -> str:
    """Return the name of a backend's framework, or the backend's name if it is not built in."""
    return {"numpy": "NumPy", **registry.FRAMEWORKS}.get(backend, backend)


def fill(text: str, backend: str) -> str:
    """Return `text` with its placeholders replaced by the values for `backend`."""
    extras = "notebooks" if backend == "numpy" else f"{backend},notebooks"
    values = {
        "backend": backend,
        "framework": framework(backend),
        "install": f".[{extras}]",
        "git": f"rnn-scratch[{extras}] @ git+https://github.com/{REPOSITORY}",
    }
    return PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def in_words(processor: str) -> str:
    """Return a processor's name as a phrase, such as "an Intel Xeon processor"."""
    words = re.sub(r"\((R|TM)\)| (Processor|CPU)\b.*", "", processor)
    return f"{'an' if words[0] in 'AEIOU' else 'a'} {words} processor"


def listed(names: Iterable[str]) -> str:
    """Join names for use in a sentence: "A, B and C"."""
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def table(cells: Cells) -> str:
    """Return a Markdown table of these cells."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([head, "|" + "---|" * len(cells[0]), *rows])


TEMPLATES = Environment(
    loader=FileSystemLoader([PAGES, Path(__file__).with_name("templates")]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"framework": framework, "listed": listed, "table": table}
TEMPLATES.filters["in_words"] = in_words
TEMPLATES.globals["repository"] = REPOSITORY


def formula_font() -> bytes:
    """Return a WOFF file of the formula font, STIX Two Math, reduced to the required glyphs.

    Browsers stretch brackets only in a math font, which some devices lack.
    """
    from fontTools import subset  # installed with Matplotlib

    fonts = resources.files("ziamath.fonts") / "STIXTwoMath-Regular.ttf"  # part of the `site` extra
    with resources.as_file(fonts) as path, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "formulas.woff")
        options = (f"--unicodes={GLYPHS}", "--flavor=woff", f"--output-file={file}")
        subset.main([str(path), *options, "--name-IDs=*"])  # the name table includes the license
        return file.read_bytes()


def page(name: str, values: Mapping[str, Any]) -> str:
    """Render a page's template with these values."""
    return TEMPLATES.get_template(name).render(values).strip("\n") + "\n"


def linked(text: str) -> str:
    """Replace links to the site's lesson pages with links to notebooks, which GitHub displays."""

    def link(match: re.Match[str]) -> str:
        lesson, anchor = match[1], match[2] or ""
        fragment = f"#{find_heading(lesson, anchor).replace(' ', '-')}" if anchor else ""
        return f"](../lessons/torch/{lesson}.ipynb{fragment})"

    return re.sub(r"\]\((build|gates|learn|fast)\.md(?:#([\w-]+))?\)", link, text)


def find_heading(lesson: str, anchor: str) -> str:
    """Return the lesson's heading with this anchor; raise RNNScratchError if no heading has it."""
    text = (LESSONS / f"{lesson}.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE):
        if slug(heading) == anchor:
            return heading
    raise RNNScratchError(f"The lesson {lesson} has no heading with the anchor {anchor!r}.")


def slug(heading: str) -> str:
    """Return the anchor that GitHub and the site generate for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render(text: str, backends: Sequence[str]) -> str:
    """Render prose for these backends; leave fenced code unchanged."""
    return map_outside_fences(text, lambda part: _prose(part, backends))


def map_outside_fences(text: str, function: Callable[[str], str]) -> str:
    """Return `text` with `function` applied to all parts outside fenced code."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [function(text[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, function(text[end:])])


def _prose(text: str, backends: Sequence[str]) -> str:
    lines = []
    for line in text.split("\n"):
        if line.startswith("#"):  # simplify headings for the table of contents
            line = re.sub(r", in \{framework\}$", "", line).replace("$", "")
            line = re.sub(r" ?\\cdot ?", "·", line)
        lines.append(line)

    def code(match: re.Match[str]) -> str:
        if not PLACEHOLDER.search(match[1]):
            return match[0]
        text = _names(html.escape(match[1]), backends)
        return f'<code class="docutils literal">{text}</code>'

    return _names(CODE.sub(code, "\n".join(lines)), backends)


def _names(text: str, backends: Sequence[str]) -> str:
    """Insert all backends' names; a script keeps only the names of the displayed frameworks."""

    def name(match: re.Match[str]) -> str:
        terms = {backend: fill(match.group(), backend) for backend in backends}
        if len(terms) == 1:
            return html.escape(next(iter(terms.values())))
        data = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in terms.items())
        return f'<span class="term" {data}>{html.escape(" / ".join(terms.values()))}</span>'

    return PLACEHOLDER.sub(name, text)
