"""The page that compares the frameworks, made from records of comparisons."""

from pathlib import Path
from typing import Any

from rnn_scratch.compare import pictures, record, report, summary, tables
from rnn_scratch.compare.record import Comparison

from . import figures, prose

SPEED, START, QUALITY = "Speed", "Start and memory", "Quality"
# For each comparison: its title, and the pictures and tables that the page includes.
COMPARISONS = {
    "speed": ("Speed", ("speed",), (SPEED, START)),
    "curves": ("The same curves", ("perplexity",), (QUALITY,)),
    "curves-story": ("The same curves on another text", ("perplexity",), ()),
    "sizes-32": ("Three sizes, 32 rows", ("speed",), (SPEED,)),
    "sizes-128": ("Three sizes, 128 rows", ("speed",), (SPEED,)),
    "target-rnn": ("Time to a held-out perplexity", (), (QUALITY,)),
    "target-lstm": ("Time to it, with an LSTM", (), (QUALITY,)),
}


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page and a dict that maps each picture's path to the picture."""
    measured = {name: record.read(folder / name) for name in COMPARISONS}
    speed = measured["speed"]
    timed = summary.timed_rows(speed)
    rows = [row for row in timed if row.value == speed.plan.varied_values[0]]
    best = max(rows, key=lambda row: row.figures["train"].median)
    # Lines about the method, which the page shows once; sections show only additional lines.
    common_method = report.lines("method", speed)
    images: dict[str, bytes] = {}
    values = {
        "units": speed.settings.num_hiddens,
        "timed": timed,
        "best": best,
        # Models whose range of speeds overlaps the best model's range.
        "similar": [
            f"`{row.candidate.model}` in {prose.framework(row.candidate.backend)}"
            for row in rows
            if row is not best and row.figures["train"].high >= best.figures["train"].low
        ],
        "baseline": speed.baseline,
        "ends": [row.figures["perplexity"].median for row in summary.qualities(measured["curves"])],
        "epochs": measured["curves"].settings.num_epochs,
        "sections": [_section(n, measured[n], common_method, images) for n in COMPARISONS],
        "common_method": common_method,
    }
    return prose.page("comparison.md", values), images


def _section(
    name: str, comparison: Comparison, common_method: list[str], images: dict[str, bytes]
) -> dict[str, Any]:
    title, drawn, captioned = COMPARISONS[name]
    drawings = {}
    for picture in drawn:
        place = f"{figures.FOLDER}/{name}-{picture}.svg"
        (images[place],) = pictures.draw(comparison, [picture]).values()
        drawings[place] = picture
    method = [line for line in report.lines("method", comparison) if line not in common_method]
    return {
        "title": title,
        "figures": drawings,
        "tables": [
            table for table in tables.tables(comparison) if table.title.split(",")[0] in captioned
        ],
        "lines": [
            *report.lines("setting", comparison),
            *report.lines("notes", comparison),
            *method,
        ],
    }
