"""A comparison's report: a page with its pictures in it, and the text that tables need beside them.

Everything is made from the record alone; the prose is in the templates.
"""

import base64
import math
from pathlib import PurePath
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from . import summary, tables
from .record import Comparison

DESCRIPTIONS = {
    "scratch": "plain code",
    "fast": "optimized by hand",
    "concise": "the framework's own layers",
}


def page(record: Comparison, pictures: dict[str, bytes]) -> str:
    """Return the report as HTML, self-contained: it needs no network and no script."""
    figures = {
        PurePath(name).stem: "data:image/svg+xml;base64," + base64.b64encode(content).decode()
        for name, content in pictures.items()
        if name.endswith(".svg")
    }
    facts = {"settings": record.settings, "plan": record.plan, "machine": record.machine}
    template = _templates(autoescape=True).get_template("report.html")
    return template.render(
        tables=tables.tables(record),
        figures=figures,
        setting=lines("setting", record),
        notes=lines("notes", record),
        method=lines("method", record),
        facts=msgspec.json.format(msgspec.json.encode(facts), indent=2).decode(),
    )


def lines(name: str, record: Comparison) -> list[str]:
    """Return the lines of a template.

    They are the ``setting`` (what was compared, and where), the ``notes`` (what a reader needs to
    know to judge the tables), or the ``method`` (how it was measured).
    """
    values = {part: getattr(record, part) for part in ("machine", "plan", "settings", "text")}
    values["started"] = {c.place: c.ready for c in record.candidates if c.ready}
    values["speeds"] = summary.timed(record)
    if name == "notes" and record.against:
        now = lines("setting", record)
        before = lines("setting", record.against)[:-1]  # without the command
        values["differences"] = [line for line in before if line not in now]
    if name == "method":
        peaks = (summary.peak(record, value) for value in record.plan.points)
        values["peaks"] = [peak for peak in peaks if peak]
    text = (
        _templates()
        .get_template(f"{name}.txt")
        .render(record=record, descriptions=DESCRIPTIONS, log2=math.log2, **values)
    )
    return [line for line in text.split("\n") if line]


def _templates(**more: Any) -> Environment:
    more |= {"loader": PackageLoader(__package__), "undefined": StrictUndefined}
    return Environment(trim_blocks=True, lstrip_blocks=True, **more)
