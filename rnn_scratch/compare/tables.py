"""The tables of a comparison, as cells of text; and its figures as CSV."""

import csv
import statistics
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from . import changes, metrics
from .metrics import Quality, Speed, Spread
from .record import Candidate, Comparison

Cells = list[list[str]]  # a heading, then rows
Columns = dict[str, Callable[[Speed], str]]


def tables(record: Comparison) -> dict[str, Cells]:
    """The tables of a record that have rows with more than a name, by title."""
    all_tables = {
        "Speed of training": speed_cells(record),
        "Start, generation, memory": other_cells(record),
        "Quality": quality_cells(record),
    }
    if record.against:
        title = f"Compared with the comparison of {record.against.started}"
        all_tables[title] = against_cells(record)
    return {
        title: cells for title, cells in all_tables.items() if len(cells) > 1 and len(cells[0]) > 1
    }


def speed_cells(record: Comparison) -> Cells:
    """The speed of training, and how close it is to what is possible; or why there is none."""
    columns: Columns = {
        "characters/s": lambda row: _figure(row.train, ",.0f"),
        f"× {record.baseline.name}": lambda row: _figure(row.ratio, ".2f"),
        "× own layer": lambda row: _figure(row.own_layer, ".2f"),
        "of own limit": lambda row: _figure(row.of_own_limit, ".0%"),
        "of peak": lambda row: _figure(row.of_peak, ".0%"),
        "speed-up": lambda row: _figure(row.speed_up, ".2f"),
        "efficiency": lambda row: _figure(row.efficiency, ".0%"),
        "exchange ms": lambda row: _figure(row.exchange, ".2f"),
    }
    return _cells(record, columns, with_failures=True)


def other_cells(record: Comparison) -> Cells:
    """What is measured apart from training: start, generation, memory."""
    columns: Columns = {
        "import s": lambda row: f"{row.importing.median:.2f}",
        "first minibatch s": lambda row: f"{row.first.median:.2f}",
        "generated characters/s": lambda row: _figure(row.generate, ",.0f"),
        "memory MiB": lambda row: _figure(row.memory, ",.0f"),
        "device memory MiB": lambda row: _figure(row.device_memory, ",.0f"),
    }
    return _cells(record, columns, with_failures=False)


def _cells(record: Comparison, columns: Columns, with_failures: bool) -> Cells:
    # A row for each candidate and value that were timed or, if it is wished, have failed.
    measured = {(row.candidate.name, row.value): row for row in metrics.speeds(record)}
    vary = record.plan.vary
    rows = []
    for value in record.plan.points:
        for candidate in record.offered:
            labels = [candidate.name, *([str(value)] if vary else [])]
            failure = candidate.failure("timing", value) or candidate.failure("training")
            if row := measured.get((candidate.name, value)):
                rows.append([*labels, *(cell(row) for cell in columns.values())])
            elif with_failures:
                reason = failure.reason if failure else ""
                rows.append([*labels, reason, *[""] * (len(columns) - 1)])
    return _used([["", *([vary] if vary else []), *columns], *rows])


def quality_cells(record: Comparison) -> Cells:
    """The results of training; digests show what they have in common."""
    target = record.plan.target
    heading = [
        "",
        "check",
        "perplexity",
        "held out",
        "bits/character",
        f"seconds to {target:g}" if target else "",
        "epochs",
        "starting parameters",
        "minibatches",
        "generated text",
    ]
    rows = []
    for row in metrics.qualities(record):
        failure = row.candidate.failure("training")
        reason = failure.reason if failure else ""
        if not row.perplexity:
            rows.append([row.candidate.name, *[""] * 8, reason])
            continue
        seeds = f" ({row.seeds} seeds)" if row.seeds > 1 else ""
        first = row.candidate.finished[0]
        rows.append(
            [
                row.candidate.name,
                f"{row.comparisons} passed",
                _mean(row.perplexity, ".4g", ".2g") + seeds,
                f"{statistics.fmean(row.held_out):.4g}" if row.held_out else "",
                f"{row.bits_per_character:.3f}" if row.bits_per_character is not None else "",
                *(target_cells(row) if target else ("", "")),
                first.parameters[:8],
                first.minibatches_seen[:8],
                reason or first.samples[0].strip(),
            ]
        )
    return _used([heading, *rows])


def target_cells(row: Quality) -> tuple[str, str]:
    """Seconds and epochs of training until the target was reached."""
    if not row.target_reached:
        return "not reached", ""
    seconds = _mean(row.target_seconds, ".1f", ".1f")
    if row.target_reached < row.seeds:
        seconds += f" (reached by {row.target_reached} of {row.seeds} seeds)"
    form = "g" if row.target_reached == 1 else ".1f"
    return seconds, _mean(row.target_epochs, form, ".1f")


def against_cells(record: Comparison) -> Cells:
    """Speeds beside those of an older comparison."""
    pairs = ("of own limit", f"× {record.baseline.name}")
    heading = ["", "verdict", "characters/s before", "now", "ratio"]
    heading += [f"{name} {when}" for name in pairs for when in ("before", "now")]
    rows = []
    for change in changes.speeds(record):
        before, now = change.before, change.now
        rows.append(
            [
                record.plan.labelled(now.candidate.name, now.value),
                change.verdict,
                _figure(before.train, ",.0f"),
                _figure(now.train, ",.0f"),
                f"{change.ratio:.2f}",
                *(_figure(each.of_own_limit, ".0%") for each in (before, now)),
                *(_figure(each.ratio, ".2f") for each in (before, now)),
            ]
        )
    return [heading, *rows]


def spreadsheet(record: Comparison) -> str:
    """All figures of a record as CSV, with a column for each part of a spread, and for a mean."""
    results = {row.candidate.name: row for row in metrics.qualities(record)}
    rows = []
    for row in metrics.speeds(record):
        flat: dict[str, Any] = {}
        for key, value in {**row._asdict(), **results[row.candidate.name]._asdict()}.items():
            if isinstance(value, Candidate):
                flat |= {"candidate": value.name, "backend": value.backend, "model": value.model}
                flat["environment"] = value.environment
            elif isinstance(value, Spread):
                flat |= {f"{key}_{part}": number for part, number in value._asdict().items()}
            elif isinstance(value, list):
                flat[f"{key}_mean"] = statistics.fmean(value) if value else ""
                flat[f"{key}_deviation"] = statistics.stdev(value) if len(value) > 1 else ""
            else:
                flat[key] = value
        rows.append(flat)
    text = StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _used(cells: Cells) -> Cells:
    # No column that is empty in all rows.
    used = [n for n in range(len(cells[0])) if n == 0 or any(row[n] for row in cells[1:])]
    return [[row[n] for n in used] for row in cells]


def _figure(value: Spread | float | None, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, Spread):
        return f"{value.median:{form}} ({value.low:{form}}–{value.high:{form}})"
    return format(value, form)


def _mean(values: Sequence[float], form: str, form_of_deviation: str) -> str:
    mean = f"{statistics.fmean(values):{form}}"
    return f"{mean} ± {statistics.stdev(values):{form_of_deviation}}" if len(values) > 1 else mean
