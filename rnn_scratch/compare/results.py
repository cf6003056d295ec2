"""The tables of a comparison, as cells of text."""

from collections.abc import Sequence

from . import summary
from .plan import Record
from .summary import Spread

Cells = list[list[str]]  # a heading, then rows


def tables(record: Record) -> dict[str, Cells]:
    """The tables of a record that have a row, by title."""
    all_tables = {
        "Speed of training": speed_cells(record),
        "Start, generation, memory": other_cells(record),
        "Quality": quality_cells(record),
    }
    if "against" in record:
        title = f"Compared with the comparison of {record['against']['started']}"
        all_tables[title] = against_cells(record)
    return {title: cells for title, cells in all_tables.items() if len(cells) > 1}


def speed_cells(record: Record) -> Cells:
    """The speed of training, and how close it is to what is possible."""
    rows = summary.speeds(record)
    heading = [
        "characters/s",
        f"× {summary.baseline(record)}",
        "× own layer",
        "of own limit",
        "of best limit",
        "speed-up",
        "efficiency",
        "exchange ms",
    ]
    cells = [
        [
            _number(row.train),
            _ratio(row.ratio),
            _ratio(row.own_layer),
            _percent(row.of_own_limit),
            "" if row.of_machine_limit is None else f"{row.of_machine_limit:.0%}",
            _ratio(row.speed_up),
            _percent(row.efficiency),
            _spread(row.exchange, ".2f"),
        ]
        if row.train
        else [row.reason, *[""] * 7]
        for row in rows
    ]
    return _with_names(record, rows, heading, cells)


def other_cells(record: Record) -> Cells:
    """What is measured apart from training: start, generation, memory."""
    rows = [row for row in summary.speeds(record) if row.train]
    heading = [
        "import s",
        "first minibatch s",
        "generated characters/s",
        "× own layer",
        "memory MiB",
        "device memory MiB",
    ]
    cells = [
        [
            _seconds(row.importing),
            _seconds(row.first),
            _number(row.generate),
            _ratio(row.generate_own_layer),
            _mebibytes(row.memory),
            _mebibytes(row.device_memory),
        ]
        for row in rows
    ]
    return _with_names(record, rows, heading, cells)


def quality_cells(record: Record) -> Cells:
    """The results of training; digests show what they have in common."""
    target = record["plan"].get("target")
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
    cells = []
    for row in summary.qualities(record):
        if row.perplexity is None:
            cells.append([row.candidate, *[""] * 8, row.reason])
            continue
        seeds = f" ({row.seeds} seeds)" if row.seeds > 1 else ""
        deviation = "" if row.deviation is None else f" ± {row.deviation:.2g}"
        seconds, epochs = target_cells(row) if target else ("", "")
        cells.append(
            [
                row.candidate,
                f"{row.comparisons} passed",
                f"{row.perplexity.median:.4g}{deviation}{seeds}",
                "" if row.held_out is None else f"{row.held_out.median:.4g}",
                "" if row.bits is None else f"{row.bits:.3f}",
                seconds,
                epochs,
                row.parameters[:8],
                row.minibatches[:8],
                row.reason or row.sample.strip(),
            ]
        )
    used = [n for n in range(len(heading)) if n == 0 or any(row[n] for row in cells)]
    return [[row[n] for n in used] for row in [heading, *cells]]


def target_cells(row: summary.Quality) -> tuple[str, str]:
    """Seconds and epochs of training until the target was reached."""
    if row.seconds is None or row.epochs is None:
        return "not reached", ""
    seconds = f"{row.seconds.median:.1f}"
    if row.seconds_deviation is not None:
        seconds += f" ± {row.seconds_deviation:.1f}"
    if row.reached < row.seeds:
        seconds += f" (reached by {row.reached} of {row.seeds} seeds)"
    epochs = f"{row.epochs.median:.1f}"
    if row.epochs_deviation is None:
        return seconds, epochs.removesuffix(".0")  # those of a single seed
    return seconds, f"{epochs} ± {row.epochs_deviation:.1f}"


def against_cells(record: Record) -> Cells:
    """Speeds beside those of an older comparison."""
    first = summary.baseline(record)
    pairs = {"of own limit": "of_own_limit", f"× {first}": "ratio_to_first"}
    heading = ["", "verdict", "characters/s before", "now", "ratio"]
    heading += [f"{name} {when}" for name in pairs for when in ("before", "now")]
    rows = []
    for row in record["against"]["speeds"]:
        label = row["candidate"]
        if row["value"] is not None:
            label += f", {record['plan']['vary']['name']} {row['value']}"
        shares = (_from_record(row.get(f"of_own_limit_{when}")) for when in ("before", "now"))
        ratios = (_from_record(row[f"ratio_to_first_{when}"]) for when in ("before", "now"))
        rows.append(
            [
                label,
                row.get("verdict", ""),
                _number(_from_record(row["before"])),
                _number(_from_record(row["now"])),
                f"{row['ratio']:.2f}",
                *map(_percent, shares),
                *map(_ratio, ratios),
            ]
        )
    return [heading, *rows]


def _with_names(
    record: Record, rows: Sequence[summary.Speed], heading: list[str], cells: Cells
) -> Cells:
    # Names in front, and no column that is empty in all rows.
    vary = record["plan"]["vary"]
    used = [number for number in range(len(heading)) if any(row[number] for row in cells)]
    names = [[row.candidate, *([str(row.value)] if vary else [])] for row in rows]
    names = [["", *([vary["name"]] if vary else [])], *names]
    return [
        [*labels, *(row[number] for number in used)]
        for labels, row in zip(names, [heading, *cells])
    ]


def _from_record(values: dict[str, float] | None) -> Spread | None:
    return Spread(**values) if values else None


def _spread(values: Spread | None, form: str) -> str:
    if values is None:
        return ""
    median, low, high = (format(value, form) for value in values)
    return f"{median} ({low}–{high})"


def _number(values: Spread | None) -> str:
    return _spread(values, ",.0f")


def _ratio(values: Spread | None) -> str:
    return _spread(values, ".2f")


def _percent(values: Spread | None) -> str:
    return _spread(values, ".0%")


def _seconds(values: Spread | None) -> str:
    return "" if values is None else f"{values.median:.2f}"


def _mebibytes(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
