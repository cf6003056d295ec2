"""The lessons for the site: the master texts for all frameworks at once.

Text that all frameworks share appears once; the rest is a group of panels for one framework or
several. Code comes from the backends, and its outputs from the notebooks.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import lessons, optimizations, prose, site_code
from .lessons import TEXTS, Code, Part
from .prose import Typeset
from .site_code import Output

BUGS = "# Spot the bug"  # the heading of a section that is a separate page of the site
PAGES = (*lessons.LESSONS, "bugs")
Results = Mapping[str, Mapping[str, Sequence[Output]]]  # keyed by backend and source


class Item(NamedTuple):
    """A section of a page: prose, or the code or the notes of each backend."""

    prose: str = ""
    codes: Mapping[str, Code] = {}
    notes: Mapping[tuple[str, ...], str] = {}


class Context(NamedTuple):
    """Data for the rendering of all parts of a text."""

    results: Results
    typeset: Typeset
    used: dict[str, set[str]]  # helpers that are shown already, by backend


def render(backends: Sequence[str], typeset: Typeset = prose.mathml) -> dict[str, str]:
    """Render the pages of the lessons by name, for these backends, as Markdown with HTML."""
    results, pages = read_results(backends), {}
    for lesson in lessons.LESSONS:
        context = Context(results, typeset, {backend: set() for backend in backends})
        parts = lessons.text_of(lesson)
        starts = [n for n, part in enumerate(parts) if part.kind == "text" and BUGS in part.content]
        end = starts[0] if starts else len(parts)
        pages[lesson] = _page(parts[:end], backends, context)
        if starts:
            pages["bugs"] = _page(parts[end:], backends, context)
    return pages


def read_results(backends: Sequence[str]) -> dict[str, dict[str, list[Output]]]:
    """Read the outputs of all cells of the notebooks, by backend and by the cell's source."""
    results: dict[str, dict[str, list[Output]]] = {}
    for backend in backends:
        paths = (TEXTS / f"{backend}/{lesson}.ipynb" for lesson in lessons.LESSONS)
        notebooks = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
        results[backend] = {
            "".join(cell["source"]): [_output(output) for output in cell["outputs"]]
            for notebook in notebooks
            for cell in notebook["cells"]
            if cell["cell_type"] == "code"
        }
    return results


def _output(output: Mapping[str, Any]) -> Output:
    data = output.get("data", {})
    if "image/png" in data:
        return Output(picture=base64.b64decode("".join(data["image/png"])))
    return Output("".join(output.get("text") or data.get("text/plain", "")))


def _page(parts: Sequence[Part], backends: Sequence[str], context: Context) -> str:
    items = _merge(parts, backends, context)
    return "\n\n".join(_html(item, backends, context) for item in items)


def _merge(parts: Sequence[Part], backends: Sequence[str], context: Context) -> list[Item]:
    # Consecutive items that belong to different backends are one group.
    merged: list[Item] = []
    for item in _items(parts, backends, context):
        last = merged[-1] if merged else Item()
        if item.codes and last.codes and not set(item.codes) & set(last.codes):
            merged[-1] = Item(codes={**last.codes, **item.codes})
        elif item.notes and last.notes and not set(sum(item.notes, ())) & set(sum(last.notes, ())):
            merged[-1] = Item(notes={**last.notes, **item.notes})
        else:
            merged.append(item)
    return merged


def _items(parts: Sequence[Part], backends: Sequence[str], context: Context) -> Iterator[Item]:
    for part in parts:
        names = [name for name in backends if lessons.applies(part, name)]
        if part.kind == "notebook" or not names:
            continue
        if part.kind == "text":
            if text := lessons.MARKS.sub("", "\n".join(part.content)).strip("\n"):
                yield Item(prose.render(text, backends, context.typeset))
        elif part.kind == "site":
            yield from _items(part.content, backends, context)
        elif part.kind == "solution":
            content = _page(part.content, backends, context)
            yield Item(
                '<details class="solution">\n<summary>Solution</summary>\n\n'
                f"{content}\n\n</details>"
            )
        elif part.kind == "gains":
            tables = {(name,): optimizations.gains_table(name) for name in names}
            yield Item(notes={key: table for key, table in tables.items() if table})
        elif part.kind in lessons.BLOCKS:
            content = _page(part.content, names, context)
            yield Item(content) if names == list(backends) else Item(notes={tuple(names): content})
        codes = {name: lessons.code_of(part, name, context.used[name]) for name in names}
        if there := {name: code for name, code in codes.items() if code}:
            yield Item(codes=there)


def _html(item: Item, backends: Sequence[str], context: Context) -> str:
    if item.notes:
        panels = [site_code.panel(names, text, markdown=True) for names, text in item.notes.items()]
        return '<div class="notes">\n\n' + "\n\n".join(panels) + "\n\n</div>"
    if not item.codes:
        return item.prose
    sources = {name: code.source for name, code in item.codes.items()}
    results = {name: context.results[name].get(source, []) for name, source in sources.items()}
    outputs = site_code.outputs(results, backends, next(iter(sources.values())))
    return "\n\n".join(filter(None, [site_code.group(item.codes, backends), outputs]))
