"""Tables of a comparison."""

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any, NamedTuple

from .record import Comparison, Plan
from .summary import Row, Spread, qualities, speeds

Columns = dict[str, tuple[str, str]]  # headings and number formats, keyed by metric


class Table(NamedTuple):
    """A table with a row per candidate and, if `vary` is a setting, per value of this setting."""

    title: str
    vary: str | None
    columns: Columns
    rows: Sequence[Row]
    names: dict[str, str]  # values of the placeholders in headings

    def cells(self) -> list[list[str]]:
        """Return the headings and rows as strings, without empty rows and columns."""
        rows = [row for row in self.rows if any(row.figures.get(name) for name in self.columns)]
        columns = {
            name: column
            for name, column in self.columns.items()
            if any(row.figures.get(name) for row in rows)
        }
        keys = ["", *([self.vary] if self.vary else [])]
        cells = [[*keys, *(heading.format(**self.names) for heading, _ in columns.values())]]
        for row in rows:
            keys = [row.candidate.name, *([str(row.value)] if self.vary else [])]
            figures = (_format(row.figures.get(n), form) for n, (_, form) in columns.items())
            cells.append([*keys, *figures])
        return cells


MAX_ROWS = 14  # a table with more rows is split by the varied setting
FAILURE = {"failure": ("failed", "")}
SPEED: Columns = {
    "train": ("characters/s", ",.0f"),
    "ratio": ("× {baseline}", ".2f"),
    "own_layer": ("× built-in layer", ".2f"),
    "of_own_limit": ("of own limit", ".0%"),
    "generate": ("generated characters/s", ",.0f"),
    **FAILURE,
}
START: Columns = {
    "importing": ("import s", ".2f"),
    "first": ("first minibatch s", ".3f"),
    "memory": ("memory MiB", ",.0f"),
    "device_memory": ("device memory MiB", ",.0f"),
}
QUALITY: Columns = {
    "checks_passed": ("checks passed", ""),
    "seeds": ("seeds", ""),
    "perplexity": ("perplexity", ".4g"),
    "held_out": ("held out", ".4g"),
    "bits": ("bits/character", ".3f"),
    "reached": ("reached {target}", ""),
    "target_seconds": ("seconds", ".1f"),
    "target_epochs": ("epochs", "g"),
    "sample": ("generated text", ""),
    **FAILURE,
}


def tables(record: Comparison) -> list[Table]:
    """Return the nonempty tables of a record; split tables with more than MAX_ROWS rows."""
    plan, speed_rows = record.plan, speeds(record)
    names = {"baseline": record.baseline.name, "target": f"{plan.target or 0:g}"}
    all_tables = [
        part
        for title, columns in (("Speed", SPEED), ("Start and memory", START))
        for part in _split(Table(title, plan.vary, columns, speed_rows, names), plan)
    ]
    all_tables.append(Table("Quality", None, QUALITY, qualities(record), names))
    return [table for table in all_tables if len(table.cells()) > 1]


def _split(table: Table, plan: Plan) -> list[Table]:
    # Split a table with too many rows into one table per value of the varied setting.
    if plan.vary is None or len(table.rows) <= MAX_ROWS:
        return [table]
    return [
        table._replace(
            title=plan.label(table.title, value),
            vary=None,
            rows=[row for row in table.rows if row.value == value],
        )
        for value in plan.values
    ]


def spreadsheet(record: Comparison) -> str:
    """Return all metrics of a record as CSV, with a column for each field of a `Spread`."""
    results = {row.candidate.name: row.figures for row in qualities(record)}
    rows: list[dict[str, Any]] = []
    for candidate, value, figures in speeds(record):
        row = {"candidate": candidate.name, "backend": candidate.backend, "model": candidate.model}
        rows.append(row | ({record.plan.vary: value} if record.plan.vary else {}))
        for name, figure in (results[candidate.name] | figures).items():
            if isinstance(figure, Spread):
                rows[-1] |= {f"{name}_{part}": n for part, n in figure._asdict().items()}
            elif figure is not None:
                rows[-1][name] = figure
    text = StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _format(figure: Any, form: str) -> str:
    if isinstance(figure, Spread):
        median, low, high = (format(part, form) for part in figure)
        return median if low == high else f"{median} ({low}–{high})"
    return "" if figure is None else format(figure, "" if isinstance(figure, str) else form)
