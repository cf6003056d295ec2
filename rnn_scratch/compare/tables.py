"""The tables that show the figures of a comparison."""

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any, NamedTuple

from .record import Comparison
from .summary import Row, Spread, qualities, speeds


class Column(NamedTuple):
    """A column: the name of its figure, its heading, and the format of its numbers."""

    name: str
    heading: str
    form: str = ""


class Table(NamedTuple):
    """A table: a row for each candidate, at each value of the varied setting if one is named."""

    title: str
    vary: str | None
    columns: Sequence[Column]
    rows: Sequence[Row]
    names: dict[str, str]  # in headings

    def cells(self) -> list[list[str]]:
        """Return headings and rows as text, without rows and columns that have no figure."""
        rows = [row for row in self.rows if any(row.figures.get(c.name) for c in self.columns)]
        columns = [c for c in self.columns if any(row.figures.get(c.name) for row in rows)]
        cells = [
            [
                "",
                *([self.vary] if self.vary else []),
                *(c.heading.format(**self.names) for c in columns),
            ]
        ]
        for row in rows:
            keys = [row.candidate.name, *([str(row.value)] if self.vary else [])]
            cells.append([*keys, *(_shown(row.figures.get(c.name), c.form) for c in columns)])
        return cells


FAILURE = Column("failure", "failed")
SPEED = [
    Column("train", "characters/s", ",.0f"),
    Column("before", "before", ",.0f"),
    Column("change", "× before", ".2f"),
    Column("ratio", "× {baseline}", ".2f"),
    Column("own_layer", "× own layer", ".2f"),
    Column("of_own_limit", "of own limit", ".0%"),
    Column("of_peak", "of peak", ".0%"),
    Column("speed_up", "speedup", ".2f"),
    Column("exchange", "exchange ms", ".2f"),
    FAILURE,
]
START = [
    Column("importing", "import s", ".2f"),
    Column("first", "first minibatch s", ".3f"),
    Column("generate", "generated characters/s", ",.0f"),
    Column("memory", "memory MiB", ",.0f"),
    Column("device_memory", "device memory MiB", ",.0f"),
]
QUALITY = [
    Column("comparisons", "checks passed"),
    Column("seeds", "seeds"),
    Column("perplexity", "perplexity", ".4g"),
    Column("held_out", "held out", ".4g"),
    Column("bits", "bits/character", ".3f"),
    Column("reached", "reached {target}"),
    Column("target_seconds", "seconds", ".1f"),
    Column("target_epochs", "epochs", "g"),
    Column("parameters", "starting parameters"),
    Column("minibatches", "minibatches"),
    Column("sample", "generated text"),
    FAILURE,
]


def tables(record: Comparison) -> list[Table]:
    """Return the tables of a record that have rows."""
    vary, timed = record.plan.vary, speeds(record)
    names = {"baseline": record.baseline.name, "target": f"{record.plan.target or 0:g}"}
    all_tables = [
        Table("Speed of training", vary, SPEED, timed, names),
        Table("Start, generation, memory", vary, START, timed, names),
        Table("Quality", None, QUALITY, qualities(record), names),
    ]
    return [table for table in all_tables if len(table.cells()) > 1]


def spreadsheet(record: Comparison) -> str:
    """Return all figures of a record as CSV, with a column for each part of a spread."""
    results = {row.candidate.name: row.figures for row in qualities(record)}
    rows: list[dict[str, Any]] = []
    for candidate, value, figures in speeds(record):
        rows.append({"candidate": candidate.name, "backend": candidate.backend})
        rows[-1] |= {"environment": candidate.environment, "model": candidate.model}
        rows[-1] |= {record.plan.vary: value} if record.plan.vary else {}
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


def _shown(figure: Any, form: str) -> str:
    if isinstance(figure, Spread):
        median, low, high = (format(part, form) for part in figure)
        return median if low == high else f"{median} ({low}–{high})"
    return "" if figure is None else format(figure, "" if isinstance(figure, str) else form)
