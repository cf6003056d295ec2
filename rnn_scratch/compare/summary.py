"""The metrics of a comparison, computed from its record."""

from collections.abc import Iterable, Sequence
from math import log2
from statistics import median
from typing import Any, NamedTuple

from msgspec.structs import asdict

from ..runs.progress import format_perplexity
from .record import Candidate, Comparison, Round, Trial


class Spread(NamedTuple):
    """The median of several measurements, with the lowest and the highest measurement."""

    median: float
    low: float
    high: float


class Row(NamedTuple):
    """The metrics of a candidate at one value of the varied setting.

    Most are a `Spread`; a metric that was not measured is None or missing.
    """

    candidate: Candidate
    value: int | None
    figures: dict[str, Any]


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median, the lowest and the highest value, or None if there are no values."""
    values = list(values)
    return Spread(median(values), min(values), max(values)) if values else None


def speeds(record: Comparison) -> list[Row]:
    """Return the speeds, or a failure, of each offered candidate at each varied value.

    A row has no metric ``train`` if nothing was timed.
    """
    rows = []
    for value in record.plan.varied_values:
        for candidate in record.offered:
            figures = _times(record, candidate, value) if candidate.rounds_at(value) else {}
            if failure := candidate.failure("timing", value) or candidate.failure("training"):
                figures["failure"] = failure.reason
            rows.append(Row(candidate, value, figures))
    return rows


def timed(record: Comparison) -> list[Row]:
    """Return the rows of `speeds` that have timings."""
    return [row for row in speeds(record) if "train" in row.figures]


def qualities(record: Comparison) -> list[Row]:
    """Return the training results, or a failure, of each offered candidate.

    With several seeds, the metrics summarize the training runs that have ended.
    """
    rows = []
    for candidate in record.offered:
        trials = [trial for trial in candidate.trials if trial.has_ended]
        figures = _results(record, trials) if trials else {}
        if failure := candidate.failure("training"):
            figures["failure"] = failure.reason
        rows.append(Row(candidate, None, figures))
    return rows


def _times(record: Comparison, candidate: Candidate, value: int | None) -> dict[str, Any]:
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
        # Ratios turn by turn, because a disturbance slows down both workloads.
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


def _results(record: Comparison, trials: Sequence[Trial]) -> dict[str, Any]:
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
        reached = [trial for trial in trials if plan.is_reached(trial.epochs[-1].held_out)]
        figures["reached"] = f"{len(reached)} of {len(trials)}"
        figures["target_seconds"] = spread(trial.seconds for trial in reached)
        figures["target_epochs"] = spread(len(trial.epochs) for trial in reached)
    return figures


def _ratios(rounds: Sequence[Round], reference: Sequence[Round]) -> Spread | None:
    # Return speed ratios of shared rounds: a disturbance in a round slows down both candidates.
    seconds = {timing.number: timing.seconds for timing in reference}
    return spread(
        seconds[timing.number] / timing.seconds for timing in rounds if timing.number in seconds
    )
