"""A comparison's HTML report and the text that accompanies its tables."""

import base64
import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from . import tables
from .record import Comparison

DESCRIPTIONS = {"scratch": "plain code", "fast": "optimized by hand", "concise": "built-in layers"}


def page(record: Comparison, pictures: dict[str, bytes]) -> str:
    """Return the report as an HTML page with SVG figures but no scripts or links."""
    figures = {
        title: "data:image/svg+xml;base64," + base64.b64encode(content).decode()
        for title, content in pictures.items()
    }
    template = _make_environment(autoescape=True).get_template("report.html")
    return template.render(
        tables=tables.tables(record),
        verdicts=tables.verdicts(record),
        figures=figures,
        **{name: lines(name, record) for name in ("setting", "notes", "method")},
    )


def lines(name: str, record: Comparison) -> list[str]:
    """Render one of the report's text templates and return its nonempty lines.

    The templates are ``setting``, ``method`` (of measurement) and ``notes`` (on the results).
    """
    values = {part: getattr(record, part) for part in ("machine", "plan", "settings", "text")}
    values["environments"] = {c.backend: c.environment for c in record.candidates if c.environment}
    values["counts"] = [len(c.training_speeds) for c in record.candidates if c.training_speeds]
    values["has_intervals"] = tables.widest_interval(record) < math.inf
    template = _make_environment().get_template(f"{name}.txt")
    text = template.render(record=record, descriptions=DESCRIPTIONS, **values)
    return [line for line in text.split("\n") if line]


def _make_environment(**options: Any) -> Environment:
    options |= {"loader": PackageLoader(__package__), "undefined": StrictUndefined}
    return Environment(trim_blocks=True, lstrip_blocks=True, **options)
