"""A comparison's metrics, verdicts and tables, computed from its record."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from math import inf
from typing import Any, NamedTuple

import numpy as np

from .record import Candidate, Comparison

MIN_CYCLES = 8  # intervals from fewer measurements would be unreliable
NUM_RESAMPLES = 1000  # bootstrap resamples per interval
# With few cycles, a median's bootstrap interval (percentiles 2.5 to 97.5) is too narrow. With the
# percentiles below, 96% to 98% of intervals contain the true median if 8 to 40 simulated cycles are
# independent, and 92% to 96% (82% to 85%) if successive cycles have a correlation of 0.2 (0.5).
PERCENTILES = 1, 99


class Estimate(NamedTuple):
    """The median over cycles and its 95% interval (0 to infinity if unknown)."""

    median: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """The verdict on a speed ratio."""
        if round(self.low, 2) > 1:
            return "faster"
        return "slower" if round(self.high, 2) < 1 else "no difference shown"

    def __format__(self, spec: str) -> str:
        """Format the median and, if known, the interval."""
        interval = f" ({self.low:{spec}}–{self.high:{spec}})" if self.high < inf else ""
        return f"{self.median:{spec}}{interval}"


@dataclass(frozen=True)
class Table:
    """A table with one row per candidate; the first `keys` columns identify the candidate."""

    title: str
    keys: int
    cells: list[list[str]]  # the first row contains the headings


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of per-cycle values with a 95% bootstrap interval.

    The cycles are resampled with a fixed seed, so a record always yields the same intervals.
    """
    median = float(np.median(values))
    if len(values) < MIN_CYCLES:
        return Estimate(median, 0, inf)
    resamples = np.random.RandomState(0).choice(values, (NUM_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(resamples, axis=1), PERCENTILES)
    return Estimate(median, float(low), float(high))


def ratios(record: Comparison, candidate: Candidate) -> dict[str, Estimate]:
    """Return a candidate's training speed relative to other candidates, by kind of reference."""
    values = {
        kind: [a / b for a, b in zip(candidate.training_speeds, reference.training_speeds)]
        for kind, reference in record.references(candidate).items()
    }
    return {kind: estimate(quotients) for kind, quotients in values.items() if quotients}


def widest_interval(record: Comparison) -> float:
    """Return the largest relative half-width of the speed ratios' intervals.

    Failed candidates are ignored. A single candidate has no ratio, so its speed is used instead.
    """
    candidates = [c for c in record.supported if c.training_speeds and not c.failure]
    estimates = [
        ratio
        for candidate in candidates
        for kind, ratio in ratios(record, candidate).items()
        if not record.references(candidate)[kind].failure
    ] or [estimate(candidate.training_speeds) for candidate in candidates]
    return max(((e.high - e.low) / 2 / e.median for e in estimates), default=inf)


def metrics(record: Comparison, candidate: Candidate) -> dict[str, Any]:
    """Return a candidate's available metrics: speeds, costs and results."""
    names = ("import_seconds", "first_minibatch_seconds", "checks_passed", "sample", "failure")
    values: dict[str, Any] = {name: getattr(candidate, name) for name in names}
    values["memory"] = candidate.memory and candidate.memory / 2**20
    if candidate.epochs and candidate.sample is not None:  # training is complete
        values["perplexity"] = candidate.epochs[-1].perplexity or inf
        values["held_out"] = candidate.epochs[-1].valid_perplexity
    if candidate.training_speeds and candidate.generation_speeds:
        values["training"] = estimate(candidate.training_speeds)
        values["generation"] = estimate(candidate.generation_speeds)
    values |= ratios(record, candidate)
    return {name: value for name, value in values.items() if value is not None}


def reference_names(record: Comparison) -> dict[str, str]:
    """Return a display name for each kind of reference."""
    return {
        "vs_baseline": (record.supported or record.candidates)[0].name,
        "vs_scratch": "scratch",
        "vs_builtin_layer": "built-in layer",
        "vs_first_value": f"{record.plan.sweep} {record.plan.varied_values[0]}",
    }


def verdicts(record: Comparison) -> list[str]:
    """Return sentences that name the faster and slower candidates for each kind of reference."""
    lines = []
    for kind, name in reference_names(record).items():
        labels: dict[str, list[str]] = {"faster": [], "slower": [], "no difference shown": []}
        for candidate in record.supported:
            if ratio := ratios(record, candidate).get(kind):
                labels[ratio.verdict].append(record.label(candidate))
        parts = [f"{verdict}: {'; '.join(group)}" for verdict, group in labels.items() if group]
        lines += [f"Compared with {name}, {part}." for part in parts]
    return lines


def format_speed(speed: Estimate) -> str:
    """Format the median speed to two significant digits."""
    value = float(f"{speed.median:.2g}")
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def tables(record: Comparison) -> list[Table]:
    """Return a record's tables, omitting empty rows, columns and tables."""
    sweep = record.plan.sweep
    rows = [(candidate, metrics(record, candidate)) for candidate in record.supported]
    kinds: dict[str, dict[str, tuple[str, Callable[[Any], str]]]] = {
        "Speed": {
            "training": ("characters/s", format_speed),
            **{k: (f"× {n}", "{:.2f}".format) for k, n in reference_names(record).items()},
            "generation": ("generated characters/s", format_speed),
            "failure": ("failed", str),
        },
        "Start and memory": {
            "import_seconds": ("import s", "{:.2f}".format),
            "first_minibatch_seconds": ("first minibatch s", "{:.3f}".format),
            "memory": ("memory MiB", "{:,.0f}".format),
        },
        "Quality": {
            "checks_passed": ("checks passed", str),
            "perplexity": ("perplexity", "{:.4g}".format),
            "held_out": ("held out", "{:.4g}".format),
            "sample": ("generated text", str),
        },
    }
    # After a few epochs, all networks repeat the prefix or one word: the texts say nothing.
    if len({values[n] for _, values in rows for n in ("sample",) if n in values}) < 2:
        del kinds["Quality"]["sample"]
    result = []
    for title, columns in kinds.items():
        shown_columns = {name for _, values in rows for name in values if name in columns}
        columns = {name: column for name, column in columns.items() if name in shown_columns}
        cells = [["", *([sweep] if sweep else []), *(heading for heading, _ in columns.values())]]
        for candidate, values in rows:
            if shown_columns & values.keys():
                keys = [candidate.name, *([str(candidate.value)] if sweep else [])]
                texts = (form(values[n]) if n in values else "" for n, (_, form) in columns.items())
                cells.append([*keys, *texts])
        result += [Table(title, 2 if sweep else 1, cells)] if shown_columns else []
    return result


def spreadsheet(record: Comparison) -> str:
    """Return a record's metrics as CSV, with one column per `Estimate` field."""
    rows = []
    for candidate in record.supported:
        row: dict[str, Any] = {"candidate": record.label(candidate)}
        for name, value in metrics(record, candidate).items():
            parts = value._asdict() if isinstance(value, Estimate) else {"": value}
            row |= {f"{name}_{part}".rstrip("_"): number for part, number in parts.items()}
        rows.append(row)
    text = StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
