"""A comparison's report: one page of HTML with its pictures in it, made from the record alone."""

import base64
import json
from importlib.resources import files

from jinja2 import Environment

from . import words
from .plan import Record

# What is said beside each picture; that of the divergence comes from the record.
CAPTIONS = {
    "speed": "Characters per second of training, with the lowest and highest of all processes. "
    "Dotted: what the matrix products alone would allow in that framework. Hatched: the "
    "framework's own layer.",
    "scaling": "What a character costs, against what was varied; the band is the spread.",
    "perplexity": "Perplexity of the training text, epoch by epoch. Curves that lie on each other "
    "are the point: the same training, in each framework.",
    "start-up": "What passes before training is at speed. It is in no other figure.",
}


def page(record: Record, pictures: dict[str, bytes]) -> str:
    """The report as HTML, complete in itself: it needs no network, and no script."""
    captions = {**CAPTIONS, "divergence": words.float64_sentence(record)}
    shown = [
        {"title": title.removesuffix(".svg"), "caption": captions[title.removesuffix(".svg")],
         "source": "data:image/svg+xml;base64," + base64.b64encode(content).decode()}
        for title, content in pictures.items() if title.endswith(".svg")
    ]  # fmt: skip
    tables = [("Speed of training", words.speed_cells(record)),
              ("Start, generation, memory", words.other_cells(record)),
              ("Quality", words.quality_cells(record))]  # fmt: skip
    if "against" in record:
        when = record["against"]["started"]
        tables.append((f"Against the comparison of {when}", words.against_cells(record)))
    source = files(__package__).joinpath("templates/report.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(source).render(
        lines=words.setting_lines(record),
        tables=tables,
        pictures=shown,
        first=("speed", "scaling"),  # above the tables; the others stand below them
        notes=words.notes(record),
        record=json.dumps({key: record[key] for key in ("settings", "plan", "machine")}, indent=2),
    )
