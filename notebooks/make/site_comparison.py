"""The page that compares the frameworks, made from records of comparisons."""

from pathlib import Path
from typing import Any

from rnn_scratch.compare import pictures, record, report, tables
from rnn_scratch.compare.record import Comparison

from . import figures, prose

SPEED, START, QUALITY = "Speed", "Start and memory", "Quality"
# For each comparison: its title, and the pictures and tables that the page includes.
COMPARISONS = {
    "speed": ("Speed", ("speed",), (SPEED, START)),
    "curves": ("The same curves", ("perplexity",), (QUALITY,)),
    "sizes": ("Three sizes", ("speed",), (SPEED,)),
}


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page and a dict that maps each picture's path to the picture."""
    measured = {name: record.read(folder / name) for name in COMPARISONS}
    speed = measured["speed"]
    images: dict[str, bytes] = {}
    values = {
        "sections": [_section(n, measured[n], speed, images) for n in COMPARISONS],
        "method": report.lines("method", speed),
    }
    return prose.page("comparison.md", values), images


def _section(
    name: str, comparison: Comparison, first: Comparison, images: dict[str, bytes]
) -> dict[str, Any]:
    # Return the content of a section. The page shows the lines about the method once, at the end;
    # and only the first section shows settings that other sections have in common with it.
    title, drawn, captioned = COMPARISONS[name]
    drawings = {}
    for picture in drawn:
        place = f"{figures.FOLDER}/{name}-{picture}.svg"
        (images[place],) = pictures.draw(comparison, [picture]).values()
        drawings[place] = picture
    shown = report.lines("method", first)
    if comparison is not first:
        shown += report.lines("setting", first)
    lines = [
        line
        for part in ("setting", "notes", "method")
        for line in report.lines(part, comparison)
        if line not in shown
    ]
    return {
        "title": title,
        "figures": drawings,
        "tables": [
            table for table in tables.tables(comparison) if table.title.split(",")[0] in captioned
        ],
        "lines": lines,
    }
