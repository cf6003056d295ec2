"""The site's lesson pages, generated from the master texts for all frameworks at once.

Text shared by all frameworks appears once; other content is in panels for one or more frameworks.
Code comes from the backends, and its outputs come from the notebooks.
"""

import base64
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import lessons, optimizations, prose, site_code
from .lessons import Code, Part
from .site_code import Output

Results = Mapping[str, Mapping[str, Sequence[Output]]]  # keyed by backend and `lessons.syntax`


@dataclass(frozen=True)
class Item:
    """A page section: prose, code by backend, or notes by group of backends."""

    prose: str = ""
    codes: Mapping[str, Code] = field(default_factory=dict)
    notes: Mapping[tuple[str, ...], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """Data for rendering all parts of a lesson."""

    results: Results
    shown_names: dict[str, set[str]]  # names of the definitions already shown, keyed by backend


def render(backends: Sequence[str]) -> dict[str, str]:
    """Return the lesson pages for these backends as Markdown with HTML, keyed by lesson."""
    results, pages = read_results(backends), {}
    for lesson in lessons.LESSONS:
        context = Context(results, {backend: set() for backend in backends})
        pages[lesson] = _page(lessons.read_parts(lesson), backends, context)
    return pages


def read_results(backends: Sequence[str]) -> dict[str, dict[str, list[Output]]]:
    """Return the outputs of the notebooks' code cells, keyed by backend and `lessons.syntax`."""
    results: dict[str, dict[str, list[Output]]] = {backend: {} for backend in backends}
    for backend, lesson in itertools.product(backends, lessons.LESSONS):
        if lessons.notebook_path(f"{backend}-{lesson}").exists():
            results[backend] |= read_outputs(f"{backend}-{lesson}")
    return results


def read_outputs(name: str) -> dict[str, list[Output]]:
    """Return the outputs of a notebook's code cells, keyed by `lessons.syntax` of their source."""
    notebook = json.loads(lessons.notebook_path(name).read_text(encoding="utf-8"))
    return {
        lessons.syntax("".join(cell["source"])): [_output(output) for output in cell["outputs"]]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    }


def _output(output: Mapping[str, Any]) -> Output:
    data = output.get("data", {})
    if "image/png" in data:
        return Output(picture=base64.b64decode("".join(data["image/png"])))
    return Output("".join(output.get("text") or data.get("text/plain", "")))


def _page(parts: Sequence[Part], backends: Sequence[str], context: Context) -> str:
    items = _merge(parts, backends, context)
    return "\n\n".join(_html(item, backends, context) for item in items)


def _merge(parts: Sequence[Part], backends: Sequence[str], context: Context) -> list[Item]:
    """Merge consecutive items of the same kind that belong to different backends."""
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
        names = [name for name in backends if lessons.is_for_backend(part, name)]
        if part.kind == "notebook" or not names:
            continue
        if part.kind == "text":
            if text := "\n".join(part.content).strip("\n"):
                yield Item(prose.render(text, backends))
        elif part.kind == "site":
            yield from _items(part.content, backends, context)
        elif part.kind == "solution":
            content = _page(part.content, backends, context)
            yield Item(
                '<details class="solution">\n<summary>Solution</summary>\n\n'
                f"{content}\n\n</details>"
            )
        elif part.kind == "gains":
            yield Item(notes={(name,): optimizations.gains_table(name) for name in names})
        elif part.kind in lessons.BLOCKS:
            content = _page(part.content, names, context)
            yield Item(content) if names == list(backends) else Item(notes={tuple(names): content})
        codes = {name: lessons.make_code(part, name, context.shown_names[name]) for name in names}
        if available := {name: code for name, code in codes.items() if code}:
            yield Item(codes=available)


def _html(item: Item, backends: Sequence[str], context: Context) -> str:
    if item.notes:
        panels = [site_code.panel(names, text, markdown=True) for names, text in item.notes.items()]
        return '<div class="notes">\n\n' + "\n\n".join(panels) + "\n\n</div>"
    if not item.codes:
        return item.prose
    sources = {name: code.source for name, code in item.codes.items()}
    results = {
        name: context.results[name].get(lessons.syntax(code.source), []) if code.runs else []
        for name, code in item.codes.items()
    }
    outputs = site_code.outputs(results, backends, next(iter(sources.values())))
    return "\n\n".join(filter(None, [site_code.group(item.codes, backends), outputs]))
