"""The figures of a comparison, computed from its record alone, and the tables that show them."""

import csv
import math
from collections.abc import Iterable, Sequence
from io import StringIO
from statistics import median
from typing import Any, NamedTuple

from msgspec.structs import asdict

from .record import Candidate, Comparison, Round, Trial

# Settings that don't change what a minibatch costs.
FREE = (
    *("num_epochs", "lr", "schedule", "warmup", "sigma", "normalize"),
    *("max_tokens", "valid_tokens", "valid_share", "seed"),
)


class Spread(NamedTuple):
    """The median of several measurements, with the lowest and the highest."""

    median: float
    low: float
    high: float


class Row(NamedTuple):
    """The figures of a candidate, at one value of the varied setting.

    Most are a `Spread`; a figure that was not measured is None or missing.
    """

    candidate: Candidate
    value: int | None
    figures: dict[str, Any]


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
    Column("speed_up", "speed-up", ".2f"),
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


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median, the lowest and the highest; None of no values."""
    numbers = list(values)
    return Spread(median(numbers), min(numbers), max(numbers)) if numbers else None


def speeds(record: Comparison) -> list[Row]:
    """Return a row for each candidate that its backend offers, at each value: times, or a failure.

    A row has no figure ``train`` if nothing was timed.
    """
    rows = []
    before = {}
    if (older := record.against) is not None:
        for row in speeds(older):
            before[_work(older, row.candidate, row.value)] = row.figures.get("train")
    for value in record.plan.points:
        for candidate in record.offered:
            figures = _times(record, candidate, value) if candidate.rounds_at(value) else {}
            old = before.get(_work(record, candidate, value))
            if old and "train" in figures:
                # Any process of this comparison with any process of the older one.
                now = figures["train"]
                change = Spread(now.median / old.median, now.low / old.high, now.high / old.low)
                figures |= {"before": old, "change": change}
            if failure := candidate.failure("timing", value) or candidate.failure("training"):
                figures["failure"] = failure.reason
            rows.append(Row(candidate, value, figures))
    return rows


def qualities(record: Comparison) -> list[Row]:
    """Return a row for each candidate that its backend offers: results of training, or a failure.

    Of several seeds, the figures are those of the training runs that have ended.
    """
    rows = []
    for candidate in record.offered:
        trials = [trial for trial in candidate.trials if trial.has_ended]
        figures = _results(record, trials) if trials else {}
        if failure := candidate.failure("training"):
            figures["failure"] = failure.reason
        rows.append(Row(candidate, None, figures))
    return rows


def peak(record: Comparison, value: int | None) -> float | None:
    """Return the GFLOP/s of a large product, in the candidate that multiplies fastest."""
    all_rounds = (candidate.rounds_at(value) for candidate in record.candidates)
    peaks = [spread(median(timed.peak) for timed in rounds if timed.peak) for rounds in all_rounds]
    return max((peak.median for peak in peaks if peak), default=None)


def _times(record: Comparison, candidate: Candidate, value: int | None) -> dict[str, Any]:
    sizes = {"batch_size": record.settings.batch_size, "num_steps": record.settings.num_steps}
    vary = record.plan.vary
    if vary in sizes and value:
        sizes[vary] = value
    tokens = math.prod(sizes.values())  # characters of a minibatch
    rounds, fastest = candidate.rounds_at(value), peak(record, value)
    figures = {
        # Characters per second: of training, of its matrix products alone, of generation.
        "train": spread(tokens / timed.seconds for timed in rounds),
        "products": spread(tokens / median(timed.products) for timed in rounds),
        "generate": spread(1 / median(timed.generation) for timed in rounds),
        # How many times as fast as the baseline, and as the framework's own layer.
        "ratio": _ratios(rounds, record.baseline.rounds_at(value)),
        "own_layer": spread(median(timed.own_layer) for timed in rounds if timed.own_layer),
        # Turn by turn, because what slows the machine for a moment slows both.
        "of_own_limit": spread(
            median(a / b for a, b in zip(timed.products, timed.minibatches)) for timed in rounds
        ),
        "of_peak": fastest
        and spread(timed.operations / timed.seconds / 1e9 / fastest for timed in rounds),
        "importing": spread(timed.importing for timed in rounds),
        "first": spread(timed.first for timed in rounds),
        "memory": _mebibytes(timed.memory for timed in rounds),
        "device_memory": _mebibytes(timed.device_memory for timed in rounds),
    }
    if vary == "workers":
        figures["speed_up"] = _ratios(rounds, candidate.rounds_at(record.plan.points[0]))
        figures["exchange"] = spread(  # ms
            1000 * max(0.0, timed.seconds - median(timed.without_exchange))
            for timed in rounds
            if timed.without_exchange
        )
    return figures


def _results(record: Comparison, trials: Sequence[Trial]) -> dict[str, Any]:
    first, plan, ends = trials[0], record.plan, [trial.epochs[-1] for trial in trials]
    held_out = [end.held_out for end in ends if end.held_out is not None]
    figures = {
        "comparisons": first.comparisons,
        "perplexity": spread(end.perplexity for end in ends),
        "held_out": spread(held_out),
        "bits": spread(map(math.log2, held_out)),  # for each character
        "parameters": first.parameters[:8],
        "minibatches": first.minibatches_seen[:8],
        "sample": first.samples[0].strip(),
    }
    if plan.seeds > 1:
        figures["seeds"] = len(trials)
    if plan.target is not None:
        reached = [trial for trial in trials if plan.is_reached(trial.epochs[-1].held_out)]
        figures["reached"] = f"{len(reached)} of {len(trials)}"
        figures["target_seconds"] = spread(trial.seconds for trial in reached)
        figures["target_epochs"] = spread(len(trial.epochs) for trial in reached)
    return figures


def _ratios(rounds: Sequence[Round], others: Sequence[Round]) -> Spread | None:
    # How many times as fast, in each round that both have: what slows a round slows both.
    seconds = {timed.number: timed.seconds for timed in others}
    return spread(
        seconds[timed.number] / timed.seconds for timed in rounds if timed.number in seconds
    )


def _mebibytes(sizes: Iterable[int | None]) -> Spread | None:
    return spread(size / 2**20 for size in sizes if size is not None)


def _work(record: Comparison, candidate: Candidate, value: int | None) -> tuple[Any, ...]:
    # What identifies a speed in another record: the candidate, and everything that a minibatch
    # depends on, whether it is varied there or not.
    plan, ready = record.plan, candidate.ready
    work = asdict(record.settings)
    work |= {"threads": plan.threads, "workers": 1, "tf32": plan.tf32}
    work["device"] = ready.device if ready else plan.device
    work["vocabulary"] = record.text.vocabulary
    if plan.vary:
        work[plan.vary] = value
    return candidate.name, *(work[name] for name in sorted(work.keys() - set(FREE)))
