"""The site's page with the comparison of the frameworks, made from the records that exist."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnn_scratch.compare import certainty, pictures, sentences, tables
from rnn_scratch.compare import record as comparison
from rnn_scratch.compare.record import Comparison
from rnn_scratch.compare.report import CAPTIONS

from . import prose
from .site_code import STATIC

TABLES = {
    "Speed of training": tables.speed_cells,
    "Start, generation, memory": tables.other_cells,
    "Quality": tables.quality_cells,
}
# The title of each comparison, and which of its pictures and tables the page includes.
COMPARISONS = {
    "speed": ("Speed", ("speed",), ("Speed of training", "Start, generation, memory")),
    "curves": ("The same curves", ("perplexity", "divergence"), ("Quality",)),
    "curves-story": ("The same curves on another text", ("divergence",), ("Quality",)),
    "sizes-32": ("Three sizes, 32 rows", ("scaling",), ("Speed of training",)),
    "sizes-128": ("Three sizes, 128 rows", ("scaling",), ("Speed of training",)),
    "target-rnn": ("Time to a held-out perplexity", (), ("Quality",)),
    "target-lstm": ("Time to it, with an LSTM", (), ("Quality",)),
}
# What the page begins with, in three sentences, and what other sections do.
SENTENCES: dict[str, Callable[[Comparison], str]] = {
    "speed": sentences.fastest,
    "curves": sentences.results,
    "target-rnn": sentences.results,
}
OPENINGS: dict[str, Callable[[Comparison], str]] = {
    "sizes-32": sentences.scaling,
    "sizes-128": sentences.scaling,
}
VERDICTS = "verdicts.json"  # of `nox -s records -- verdicts`


def render(folder: Path, records_folder: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their places in the site."""
    measured = {name: comparison.read(folder / name) for name in COMPARISONS}
    # How all was measured, and below each comparison what is different there.
    how = sentences.method(next(iter(measured.values())))
    images: dict[str, bytes] = {}
    values = {
        "sentences": [say(measured[name]) for name, say in SENTENCES.items()],
        "sections": [_section(name, record, how, images) for name, record in measured.items()],
        "rule": certainty.RULE,
        "yardstick": certainty.YARDSTICK,
        "how": how,
        # What is said where nothing has changed, and of code that is made slower.
        "verdicts": json.loads((records_folder / VERDICTS).read_bytes()),
    }
    return prose.page("comparison.md", values), images


def _section(
    name: str, record: Comparison, how: list[str], images: dict[str, bytes]
) -> dict[str, Any]:
    title, drawn, captioned = COMPARISONS[name]
    drawings = pictures.draw(record, [f"{each}.svg" for each in drawn])
    captions, shown = {**CAPTIONS, "divergence": sentences.float64(record)}, {}
    for file, image in drawings.items():
        place = f"{STATIC}/figures/{name}-{file}"
        images[place] = image
        shown[place] = captions[Path(file).stem]
    others = [line for line in sentences.method(record) if line not in how]
    return {
        "title": title,
        "opening": OPENINGS[name](record) if name in OPENINGS else "",
        "figures": shown,
        "tables": {caption: TABLES[caption](record) for caption in captioned},
        "lines": [*sentences.setting(record), *sentences.notes(record), *others],
    }
