"""The tables of a comparison, as cells of text."""

from . import metrics
from .metrics import Mean, Quality
from .record import Comparison, Plan, Spread

Cells = list[list[str]]  # a heading, then rows


def tables(record: Comparison) -> dict[str, Cells]:
    """The tables of a record that have a row, by title."""
    all_tables = {
        "Speed of training": speed_cells(record),
        "Start, generation, memory": other_cells(record),
        "Quality": quality_cells(record),
    }
    if record.against:
        title = f"Compared with the comparison of {record.against.started}"
        all_tables[title] = against_cells(record)
    return {title: cells for title, cells in all_tables.items() if len(cells) > 1}


def speed_cells(record: Comparison) -> Cells:
    """The speed of training, and how close it is to what is possible; or why there is none."""
    heading = [
        "characters/s",
        f"× {record.baseline.name}",
        "× own layer",
        "of own limit",
        "of best limit",
        "speed-up",
        "efficiency",
        "exchange ms",
    ]
    measured = {(row.candidate, row.value): row for row in metrics.speeds(record)}
    rows = []
    for value in record.plan.points:
        for candidate in record.offered:
            row = measured.get((candidate.name, value))
            failure = candidate.timing(value).failure or candidate.failure
            cells = [failure.reason if failure else "", *[""] * 7]
            if row is not None:
                cells = [
                    _number(row.train),
                    _ratio(row.ratio),
                    _ratio(row.own_layer),
                    _percent(row.of_own_limit),
                    f"{row.of_best_limit:.0%}",
                    _ratio(row.speed_up),
                    _percent(row.efficiency),
                    _spread(row.exchange, ".2f"),
                ]
            rows.append([candidate.name, *_value(record.plan, value), *cells])
    return _used([["", *_value_heading(record.plan), *heading], *rows])


def other_cells(record: Comparison) -> Cells:
    """What is measured apart from training: start, generation, memory."""
    heading = [
        "import s",
        "first minibatch s",
        "generated characters/s",
        "× own layer",
        "memory MiB",
        "device memory MiB",
    ]
    rows = [
        [
            row.candidate,
            *_value(record.plan, row.value),
            f"{row.importing.median:.2f}",
            f"{row.first.median:.2f}",
            _number(row.generate),
            _ratio(row.generate_own_layer),
            _mebibytes(row.memory),
            _mebibytes(row.device_memory),
        ]
        for row in metrics.speeds(record)
    ]
    return _used([["", *_value_heading(record.plan), *heading], *rows])


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
        reason = row.candidate.failure.reason if row.candidate.failure else ""
        if row.perplexity is None:
            rows.append([row.candidate.name, *[""] * 8, reason])
            continue
        seeds = f" ({row.seeds} seeds)" if row.seeds > 1 else ""
        first = row.candidate.finished[0]
        rows.append(
            [
                row.candidate.name,
                f"{row.comparisons} passed",
                _mean(row.perplexity, ".4g", ".2g") + seeds,
                f"{row.held_out.mean:.4g}" if row.held_out else "",
                f"{row.bits:.3f}" if row.bits is not None else "",
                *(target_cells(row) if target else ("", "")),
                first.parameters[:8],
                first.minibatches_seen[:8],
                reason or first.samples[0].strip(),
            ]
        )
    return _used([heading, *rows])


def target_cells(row: Quality) -> tuple[str, str]:
    """Seconds and epochs of training until the target was reached."""
    if row.seconds is None or row.epochs is None:
        return "not reached", ""
    seconds = _mean(row.seconds, ".1f", ".1f")
    if row.reached < row.seeds:
        seconds += f" (reached by {row.reached} of {row.seeds} seeds)"
    return seconds, _mean(row.epochs, ".1f", ".1f") if row.reached > 1 else f"{row.epochs.mean:g}"


def against_cells(record: Comparison) -> Cells:
    """Speeds beside those of an older comparison."""
    pairs = ("of own limit", f"× {record.baseline.name}")
    heading = ["", "verdict", "characters/s before", "now", "ratio"]
    heading += [f"{name} {when}" for name in pairs for when in ("before", "now")]
    rows = []
    for change in record.against.speeds if record.against else ():
        before, now = change.before, change.now
        rows.append(
            [
                record.plan.labelled(now.candidate, now.value),
                change.verdict,
                _number(before.train),
                _number(now.train),
                f"{change.ratio:.2f}",
                *(_percent(each.of_own_limit) for each in (before, now)),
                *(_ratio(each.ratio) for each in (before, now)),
            ]
        )
    return [heading, *rows]


def _value_heading(plan: Plan) -> list[str]:
    return [plan.vary] if plan.vary else []


def _value(plan: Plan, value: int | None) -> list[str]:
    return [str(value)] if plan.vary else []


def _used(cells: Cells) -> Cells:
    # No column that is empty in all rows.
    used = [n for n in range(len(cells[0])) if n == 0 or any(row[n] for row in cells[1:])]
    return [[row[n] for n in used] for row in cells]


def _spread(values: Spread | None, form: str) -> str:
    if values is None:
        return ""
    return f"{values.median:{form}} ({values.low:{form}}–{values.high:{form}})"


def _mean(values: Mean, form: str, form_of_deviation: str) -> str:
    deviation = "" if values.deviation is None else f" ± {values.deviation:{form_of_deviation}}"
    return f"{values.mean:{form}}{deviation}"


def _number(values: Spread | None) -> str:
    return _spread(values, ",.0f")


def _ratio(values: Spread | None) -> str:
    return _spread(values, ".2f")


def _percent(values: Spread | None) -> str:
    return _spread(values, ".0%")


def _mebibytes(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
