"""The figures that sum up a comparison, computed from its record alone."""

from collections.abc import Iterable, Sequence
from math import log2
from statistics import median
from typing import Any, NamedTuple

from msgspec.structs import asdict

from ..runs.progress import format_perplexity
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


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median, the lowest and the highest; None of no values."""
    numbers = list(values)
    return Spread(median(numbers), min(numbers), max(numbers)) if numbers else None


def speeds(record: Comparison) -> list[Row]:
    """Return a row for each candidate that its backend offers, at each value: times, or a failure.

    A row has no figure ``train`` if nothing was timed.
    """
    rows, before = [], {}
    if older := record.against:
        before = {_work(older, *row[:2]): row.figures["train"] for row in timed(older)}
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


def timed(record: Comparison) -> list[Row]:
    """Return the rows of `speeds` in which something was timed."""
    return [row for row in speeds(record) if "train" in row.figures]


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
    peaks = [spread(median(times.peak) for times in rounds if times.peak) for rounds in all_rounds]
    return max((peak.median for peak in peaks if peak), default=None)


def _times(record: Comparison, candidate: Candidate, value: int | None) -> dict[str, Any]:
    vary = record.plan.vary
    sizes = asdict(record.settings) | ({vary: value} if vary else {})
    tokens = sizes["batch_size"] * sizes["num_steps"]  # characters of a minibatch
    rounds, fastest = candidate.rounds_at(value), peak(record, value)
    figures = {
        # Characters per second: of training, of its matrix products alone, of generation.
        "train": spread(tokens / times.seconds for times in rounds),
        "products": spread(tokens / median(times.products) for times in rounds),
        "generate": spread(1 / median(times.generation) for times in rounds),
        # How many times as fast as the baseline, and as the framework's own layer.
        "ratio": _ratios(rounds, record.baseline.rounds_at(value)),
        "own_layer": spread(median(times.own_layer) for times in rounds if times.own_layer),
        # Turn by turn, because what slows the machine for a moment slows both.
        "of_own_limit": spread(
            median(a / b for a, b in zip(times.products, times.minibatches)) for times in rounds
        ),
        "of_peak": fastest
        and spread(times.operations / times.seconds / 1e9 / fastest for times in rounds),
        "importing": spread(times.importing for times in rounds),
        "first": spread(times.first for times in rounds),
        "memory": _mebibytes(times.memory for times in rounds),
        "device_memory": _mebibytes(times.device_memory for times in rounds),
    }
    if vary == "workers":
        figures["speed_up"] = _ratios(rounds, candidate.rounds_at(record.plan.points[0]))
        figures["exchange"] = spread(  # ms
            1000 * max(0.0, times.seconds - median(times.without_exchange))
            for times in rounds
            if times.without_exchange
        )
    return figures


def _results(record: Comparison, trials: Sequence[Trial]) -> dict[str, Any]:
    first, plan, ends = trials[0], record.plan, [trial.epochs[-1] for trial in trials]
    known = [end.perplexity for end in ends]
    held_out = [end.held_out for end in ends if end.held_out is not None]
    figures = {
        "comparisons": first.comparisons,
        "perplexity": format_perplexity(None) if None in known else spread(filter(None, known)),
        "held_out": spread(held_out),
        "bits": spread(map(log2, held_out)),  # for each character
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
    seconds = {times.number: times.seconds for times in others}
    return spread(
        seconds[times.number] / times.seconds for times in rounds if times.number in seconds
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
