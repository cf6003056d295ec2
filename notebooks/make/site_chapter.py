"""The chapter for the site: the master text told for all frameworks at once.

What is the same for all stands there once; what is not is a group of panels, one for a framework or
for some. Code comes from the backends as they ship; what it gives, from the notebooks.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rnn_scratch import registry
from rnn_scratch.cli import source_code

from . import chapter, site_code, site_prose
from .chapter import TEXTS, Part
from .site_code import Code, Output
from .site_prose import Typeset

# The text is one notebook, and three pages: where the second and the third begin.
PAGES = {"chapter": "", "exercises": "# Exercises", "bugs": "# Spot the bug"}
Given = Mapping[str, Mapping[str, Sequence[Output]]]  # by backend and source


class Item(NamedTuple):
    """A stretch of a page: prose, or what each backend has there."""

    prose: str = ""
    codes: Mapping[str, Code] = {}
    told: Mapping[tuple[str, ...], str] = {}


class Way(NamedTuple):
    """What goes along while a text is told."""

    given: Given
    typeset: Typeset
    shown: dict[str, set[str]]  # by backend: a helper is shown once


def told(typeset: Typeset = site_prose.mathml) -> dict[str, str]:
    """The chapter's pages by name, as Markdown with HTML in it."""
    way = Way(given(), typeset, {backend: set() for backend in registry.OURS})
    names = iter(PAGES)
    split: dict[str, list[Part]] = {next(names): []}
    begins = {first: name for name, first in PAGES.items() if first}
    for part in chapter.parse(TEXTS / "chapter.md"):
        for piece in _divided(part):
            heading = piece.inside[0] if piece.kind == "text" and piece.inside else ""
            if heading in begins:
                split[begins[heading]] = []
            split[list(split)[-1]].append(piece)
    return {name: _page(parts, registry.OURS, way) for name, parts in split.items()}


def given() -> dict[str, dict[str, list[Output]]]:
    """What every cell of the notebooks gave, by backend and the cell's source."""
    found: dict[str, dict[str, list[Output]]] = {}
    for backend in registry.OURS:
        path = TEXTS / f"{backend}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": []}
        found[backend] = {
            "".join(cell["source"]): [_given(output) for output in cell["outputs"]]
            for cell in notebook["cells"] if cell["cell_type"] == "code"
        }  # fmt: skip
    return found


def _given(output: Mapping[str, Any]) -> Output:
    data = output.get("data", {})
    if "image/png" in data:
        return Output(picture=base64.b64decode("".join(data["image/png"])))
    return Output("".join(output.get("text") or data.get("text/plain", "")))


def _divided(part: Part) -> Iterator[Part]:
    # A text with a heading of the first rank in it is two.
    if part.kind != "text":
        yield part
        return
    starts = [n for n, line in enumerate(part.inside) if line.startswith("# ")]
    for start, end in zip([0, *starts], [*starts, len(part.inside)]):
        if end > start:
            yield part._replace(inside=part.inside[start:end])


def _page(parts: Sequence[Part], backends: Sequence[str], way: Way) -> str:
    return "\n\n".join(_written(item, backends, way) for item in _merged(parts, backends, way))


def _merged(parts: Sequence[Part], backends: Sequence[str], way: Way) -> list[Item]:
    # What stands in a row and belongs to different backends is one group.
    merged: list[Item] = []
    for item in _items(parts, backends, way):
        last = merged[-1] if merged else Item()
        if item.codes and last.codes and not set(item.codes) & set(last.codes):
            merged[-1] = Item(codes={**last.codes, **item.codes})
        elif item.told and last.told and not set(sum(item.told, ())) & set(sum(last.told, ())):
            merged[-1] = Item(told={**last.told, **item.told})
        else:
            merged.append(item)
    return merged


def _items(parts: Sequence[Part], backends: Sequence[str], way: Way) -> Iterator[Item]:
    for part in parts:
        asked = [name for name in backends if name in part.argument.split()] or list(backends)
        if part.kind == "text":
            yield from _text("\n".join(part.inside), backends, way)
        elif part.kind == "solution":
            inside = _page(part.inside, backends, way)
            yield Item(
                f'<details class="solution" markdown="1">\n<summary>Solution</summary>\n\n{inside}'
                "\n\n</details>"
            )
        elif part.kind == "only":
            yield Item(told={tuple(asked): _page(part.inside, asked, way)})
        elif part.kind == "piece":
            found = {name: _piece(name, part.argument, way) for name in backends}
            yield Item(codes={name: code for name, code in found.items() if code.source})
        elif part.kind == "code":
            yield Item(codes={name: Code(_cell(part, name)) for name in asked})
        else:  # imports, bug, fix
            cells = {name: _cell(part, name) for name in backends}
            if part.kind == "fix":  # a difference between fences
                unfenced = {name: "\n".join(cell.split("\n")[1:-1]) for name, cell in cells.items()}
                yield Item(codes={name: Code(cell, "diff") for name, cell in unfenced.items()})
            else:
                yield Item(codes={name: Code(cell) for name, cell in cells.items()})


def _cell(part: Part, backend: str) -> str:
    return chapter.cells([part], backend)[0].source


def _text(text: str, backends: Sequence[str], way: Way) -> Iterator[Item]:
    # A command between the lines that is another one in each framework is code like any other.
    blocks = text.strip("\n").split("\n\n")
    for number, each in enumerate(blocks):
        if each.startswith("    ") and site_prose.OPEN.search(each):
            before, after = "\n\n".join(blocks[:number]), "\n\n".join(blocks[number + 1 :])
            lines = "\n".join(line[4:] for line in each.split("\n"))
            codes = {name: Code(site_prose.filled(lines, name), "bash") for name in backends}
            yield from [*_text(before, backends, way), Item(codes=codes)]
            yield from _text(after, backends, way)
            return
    if text.strip():
        yield Item(site_prose.told(text.strip("\n"), backends, way.typeset))


def _piece(backend: str, name: str, way: Way) -> Code:
    found = [
        each for each in source_code.find(backend, name) if each.name not in way.shown[backend]
    ]
    way.shown[backend] |= {each.name for each in found}
    place = f"backends/{backend}/{found[0].file.name}, line {found[0].line}" if found else ""
    return Code(source_code.joined(found), place=place)


def _written(item: Item, backends: Sequence[str], way: Way) -> str:
    if item.told:
        panels = [site_code.panel(names, text, markdown=True) for names, text in item.told.items()]
        return '<div class="told" markdown="1">\n\n' + "\n\n".join(panels) + "\n\n</div>"
    if not item.codes:
        return item.prose
    sources = {name: code.source for name, code in item.codes.items()}
    gave = {name: way.given[name].get(source, []) for name, source in sources.items()}
    outputs = site_code.outputs(gave, backends, next(iter(sources.values())))
    return "\n\n".join(filter(None, [site_code.group(item.codes, backends), outputs]))
