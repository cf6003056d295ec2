"""Tables of a comparison."""

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any, NamedTuple

from .record import Comparison, Plan
from .summary import Row, Spread, qualities, speeds


class Column(NamedTuple):
    """A column: the name of a metric, a heading, and a number format."""

    name: str
    heading: str
    form: str = ""


class Table(NamedTuple):
    """A table with a row per candidate and, if `vary` is a setting, per value of this setting."""

    title: str
    vary: str | None
    columns: Sequence[Column]
    rows: Sequence[Row]
    names: dict[str, str]  # values of the placeholders in headings

    def cells(self) -> list[list[str]]:
        """Return the headings and rows as strings, without empty rows and columns."""
        rows = [row for row in self.rows if any(row.figures.get(c.name) for c in self.columns)]
        columns = [c for c in self.columns if any(row.figures.get(c.name) for row in rows)]
        keys = ["", *([self.vary] if self.vary else [])]
        cells = [[*keys, *(c.heading.format(**self.names) for c in columns)]]
        for row in rows:
            keys = [row.candidate.name, *([str(row.value)] if self.vary else [])]
            cells.append([*keys, *(_format(row.figures.get(c.name), c.form) for c in columns)])
        return cells


MAX_ROWS = 14  # a table with more rows is split by the varied setting
FAILURE = Column("failure", "failed")
SPEED = [
    Column("train", "characters/s", ",.0f"),
    Column("ratio", "× {baseline}", ".2f"),
    Column("own_layer", "× built-in layer", ".2f"),
    Column("of_own_limit", "of own limit", ".0%"),
    Column("generate", "generated characters/s", ",.0f"),
    FAILURE,
]
START = [
    Column("importing", "import s", ".2f"),
    Column("first", "first minibatch s", ".3f"),
    Column("memory", "memory MiB", ",.0f"),
    Column("device_memory", "device memory MiB", ",.0f"),
]
QUALITY = [
    Column("checks_passed", "checks passed"),
    Column("seeds", "seeds"),
    Column("perplexity", "perplexity", ".4g"),
    Column("held_out", "held out", ".4g"),
    Column("bits", "bits/character", ".3f"),
    Column("reached", "reached {target}"),
    Column("target_seconds", "seconds", ".1f"),
    Column("target_epochs", "epochs", "g"),
    Column("sample", "generated text"),
    FAILURE,
]


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
