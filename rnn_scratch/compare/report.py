"""A comparison's report: one page of HTML with its pictures in it, made from the record alone."""

import base64
import re

import msgspec
from markupsafe import Markup, escape

from . import sentences, tables
from .record import Comparison

# The captions of the pictures; that of the divergence comes from the record.
CAPTIONS = {
    "speed": "Characters per second of training, with the lowest and highest of all processes. "
    "Dotted: what the matrix products alone would allow in that framework. Plain color: the plain "
    "code (scratch); lighter: optimized by hand (fast); darker and hatched: the framework's own "
    "layers (concise).",
    "scaling": "Time per character against what is varied; the band is the spread. Solid: the "
    "plain code (scratch); dashed: optimized by hand (fast); dotted: the framework's own layers "
    "(concise).",
    "perplexity": "Perplexity of the training text, epoch by epoch. Curves that coincide are the "
    "point: it is the same training in each framework.",
}


def _code(sentence: str) -> Markup:
    # A sentence in which names between backticks are code.
    return Markup(re.sub("`(.*?)`", r"<code>\1</code>", str(escape(sentence))))


def page(record: Comparison, pictures: dict[str, bytes]) -> str:
    """The report as HTML, self-contained: it needs no network and no script."""
    captions = {**CAPTIONS, "divergence": sentences.float64(record)}
    figures = []
    for file_name, content in pictures.items():
        title, _, format = file_name.rpartition(".")
        if format == "svg":
            address = "data:image/svg+xml;base64," + base64.b64encode(content).decode()
            figures.append({"title": title, "caption": captions[title], "source": address})
    facts = {"settings": record.settings, "plan": record.plan, "machine": record.machine}
    template = sentences.templates(autoescape=True).get_template("report.html")
    return template.render(
        conclusions=[_code(line) for line in sentences.conclusions(record)],
        lines=sentences.setting(record),
        tables=tables.tables(record).items(),
        pictures=figures,
        first=("speed", "scaling"),  # above the tables; the others are below them
        notes=sentences.notes(record),
        how=sentences.method(record),
        record=msgspec.json.format(msgspec.json.encode(facts), indent=2).decode(),
    )
