"""Makes slides of lessons from the cells of their notebooks: `python -m make.slides NAME`.

It runs in the folder of the clone, with names such as numpy-build, or none for all lessons whose
notebooks there are, and writes to ``build/slides``. A heading begins a slide, and a cell of code
one below it. Formulas, tables and lists are on it, and so are functions, which appear one after
another, and what they print and draw; prose is in the speaker's notes, which the key S shows.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnn_scratch import registry

from .lessons import LESSONS, TEXTS

SLIDES = Path("build/slides")
SHOWN = ("$$", "|", "- ", "```", "**")  # how a block of text begins that is on the slide


def cells(notebook: dict[str, Any]) -> Iterator[tuple[str, str, str, list[Any]]]:
    """Yield the cells of the slides: kind of slide, kind of cell, source and outputs."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            *parts, last = source.split("\n\n\n")
            kinds = ["subslide", *["fragment"] * len(parts)]
            for kind, part in zip(kinds, parts):
                yield kind, "code", part, []
            yield kinds[-1] if parts else "subslide", "code", last, cell["outputs"]
        else:
            for block in _blocks(source):
                shown = "fragment" if block.startswith(SHOWN) else "notes"
                yield "slide" if block.startswith("#") else shown, "markdown", block, []


def _blocks(text: str) -> Iterator[str]:
    # Between empty lines; code between fences is one block.
    lines: list[str] = []
    fenced = False
    for line in [*text.split("\n"), ""]:
        fenced ^= line.startswith("```")
        if line or fenced:
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []


def make(name: str) -> Path:
    """Write the slides of a lesson's notebook; the file."""
    from nbconvert import SlidesExporter
    from nbformat import from_dict

    notebook = json.loads((TEXTS / f"{name}.ipynb").read_text(encoding="utf-8"))
    slides = []
    for n, (kind, cell, source, outputs) in enumerate(cells(notebook)):
        results = {"outputs": outputs, "execution_count": None} if cell == "code" else {}
        metadata = {"slideshow": {"slide_type": kind}}
        slide = {"cell_type": cell, "id": f"slide-{n}", "source": source, "metadata": metadata}
        slides.append({**slide, **results})
    notebook["cells"] = slides
    exporter = SlidesExporter(
        reveal_scroll=True,
        reveal_number="c/t",
        reveal_width="1280",  # for lines of 100 characters
        reveal_height="760",
        exclude_input_prompt=True,
    )
    text, _ = exporter.from_notebook_node(from_dict(notebook))
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
