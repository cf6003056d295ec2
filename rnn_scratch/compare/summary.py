"""Metrics of a comparison, computed from its record."""

from collections.abc import Iterable, Sequence
from math import log2
from statistics import median
from typing import Any, NamedTuple

from msgspec.structs import asdict

from ..runs.progress import format_perplexity
from .record import Candidate, Comparison, Round, Trial


class Spread(NamedTuple):
    """The median, the minimum and the maximum of several measurements."""

    median: float
    low: float
    high: float


class Row(NamedTuple):
    """The metrics of a candidate at one value of the varied setting.

    Most metrics are a `Spread`. A metric without measurements is None or missing.
    """

    candidate: Candidate
    value: int | None
    figures: dict[str, Any]


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median, the minimum and the maximum, or None if there are no values."""
    values = list(values)
    return Spread(median(values), min(values), max(values)) if values else None


def speeds(record: Comparison) -> list[Row]:
    """Return each offered candidate's speeds and any failure, by value of the varied setting.

    A row without timings lacks the ``train`` metric.
    """
    rows = []
    for value in record.plan.varied_values:
        for candidate in record.offered:
            figures = _speed_metrics(record, candidate, value) if candidate.rounds_at(value) else {}
            if failure := candidate.failure("timing", value) or candidate.failure("training"):
                figures["failure"] = failure.reason
            rows.append(Row(candidate, value, figures))
    return rows


def timed_rows(record: Comparison) -> list[Row]:
    """Return the rows of `speeds` that have timings."""
    return [row for row in speeds(record) if "train" in row.figures]


def qualities(record: Comparison) -> list[Row]:
    """Return the training results, and any failure, of each offered candidate.

    With several seeds, metrics summarize the training runs that have ended.
    """
    rows = []
    for candidate in record.offered:
        trials = [trial for trial in candidate.trials if trial.has_ended]
        figures = _quality_metrics(record, trials) if trials else {}
        if failure := candidate.failure("training"):
            figures["failure"] = failure.reason
        rows.append(Row(candidate, None, figures))
    return rows


def _speed_metrics(record: Comparison, candidate: Candidate, value: int | None) -> dict[str, Any]:
    vary = record.plan.vary
    sizes = asdict(record.settings) | ({vary: value} if vary else {})
    tokens = sizes["batch_size"] * sizes["num_steps"]
    rounds, layer = candidate.rounds_at(value), record.built_in_layer(candidate)
    return {
        # Characters per second: training, its matrix products alone, and generation.
        "train": spread(tokens / timing.seconds for timing in rounds),
        "products": spread(tokens / median(timing.products) for timing in rounds),
        "generate": spread(1 / median(timing.generation) for timing in rounds),
        # Speed relative to the baseline and to the built-in layer.
        "ratio": _ratios(rounds, record.baseline.rounds_at(value)),
        "own_layer": _ratios(rounds, layer.rounds_at(value) if layer else []),
        # Compute ratios within turns, because a disturbance slows down both workloads of a turn.
        "of_own_limit": spread(
            median(a / b for a, b in zip(timing.products, timing.minibatches)) for timing in rounds
        ),
        "importing": spread(timing.import_seconds for timing in rounds),
        "first": spread(timing.first_minibatch for timing in rounds),
        "memory": spread(timing.memory / 2**20 for timing in rounds if timing.memory),
        "device_memory": spread(
            timing.device_memory / 2**20 for timing in rounds if timing.device_memory
        ),
    }


def _quality_metrics(record: Comparison, trials: Sequence[Trial]) -> dict[str, Any]:
    first, plan, last_epochs = trials[0], record.plan, [trial.epochs[-1] for trial in trials]
    perplexities = [epoch.perplexity for epoch in last_epochs]
    overflow = format_perplexity(None) if None in perplexities else None
    held_out = [epoch.held_out for epoch in last_epochs if epoch.held_out is not None]
    figures = {
        "checks_passed": first.checks_passed,
        "perplexity": overflow or spread(filter(None, perplexities)),
        "held_out": spread(held_out),
        "bits": spread(map(log2, held_out)),  # per character
        "sample": first.samples[0].strip(),
    }
    if plan.seeds > 1:
        figures["seeds"] = len(trials)
    if plan.target is not None:
        successes = [trial for trial in trials if plan.is_reached(trial.epochs[-1].held_out)]
        figures["reached"] = f"{len(successes)} of {len(trials)}"
        figures["target_seconds"] = spread(trial.seconds for trial in successes)
        figures["target_epochs"] = spread(len(trial.epochs) for trial in successes)
    return figures


def _ratios(rounds: Sequence[Round], reference: Sequence[Round]) -> Spread | None:
    # Compute speed ratios within rounds, because a disturbance slows down a whole round.
    seconds = {timing.number: timing.seconds for timing in reference}
    return spread(
        seconds[timing.number] / timing.seconds for timing in rounds if timing.number in seconds
    )
