"""The figures of a comparison, computed from its record alone."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .certainty import LEAST_CHANGE
from .record import Candidate, Comparison, Round


class Spread(NamedTuple):
    """The median of several measurements, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @property
    def is_one(self) -> bool:
        """Of a ratio of speeds: whether no difference between the two is measurable."""
        return self.low <= 1 <= self.high or abs(self.median - 1) < LEAST_CHANGE


class Speed(NamedTuple):
    """A candidate's speed, at one value of what is varied."""

    candidate: Candidate
    value: int | None
    threads: int
    train: Spread  # characters/s of training
    ratio: Spread | None  # to the baseline, round by round
    own_layer: Spread | None  # to the framework's own layer, in turns in one process
    products: Spread  # characters/s that the matrix products alone would allow
    of_own_limit: Spread  # share of that
    peak: float | None  # GFLOP/s of a large product, in the candidate that multiplies fastest
    of_peak: float | None  # share of that which the products of training reach
    generate: Spread  # characters/s
    importing: Spread  # s
    first: Spread  # s of the first minibatch
    memory: float | None  # MiB of the process at most
    device_memory: float | None  # MiB on the device at most
    speed_up: Spread | None  # to the fewest workers, round by round; if they are varied
    efficiency: Spread | None  # speed-up for each time as many workers
    exchange: Spread | None  # milliseconds of a minibatch that the exchange takes


class Quality(NamedTuple):
    """The results of a candidate's trials, as far as they have ended; lists have one of each."""

    candidate: Candidate
    comparisons: int  # with the reference, all passed
    perplexity: list[float]  # of the last epoch
    held_out: list[float]  # perplexity of the held-out text
    bits_per_character: float | None  # of that text
    seeds: int
    target_reached: int  # by this number of seeds
    target_seconds: list[float]  # of training until then
    target_epochs: list[int]  # likewise


def spread(values: Iterable[float]) -> Spread:
    """Median, lowest and highest."""
    numbers = list(values)
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def spread_of_some(values: Iterable[float]) -> Spread | None:
    """Median, lowest and highest; None of no values."""
    numbers = list(values)
    return spread(numbers) if numbers else None


def speeds(record: Comparison) -> list[Speed]:
    """The speed of each candidate at each value of what is varied, if it was timed."""
    return [row for value in record.plan.points for row in _speeds_at(record, value)]


def _speeds_at(record: Comparison, value: int | None) -> list[Speed]:
    sizes = {"batch_size": record.settings.batch_size, "num_steps": record.settings.num_steps}
    if value is not None and record.plan.vary in sizes:
        sizes[record.plan.vary] = value
    tokens = math.prod(sizes.values())  # characters of a minibatch
    rounds = [(each, each.rounds_at(value)) for each in record.candidates]
    rounds = [(candidate, own) for candidate, own in rounds if own]
    baseline, fewest = record.baseline.rounds_at(value), record.plan.points[0]
    share = fewest / value if fewest and value else 1.0

    def per_second(own: list[Round], times: Callable[[Round], Iterable[float]]) -> Spread:
        return spread(tokens / statistics.median(times(each)) for each in own)

    all_peaks = [[statistics.median(each.peak) for each in own if each.peak] for _, own in rounds]
    peak = max((statistics.median(own) for own in all_peaks if own), default=None)
    rows = []
    for candidate, own in rounds:
        train = per_second(own, lambda each: each.minibatches)
        several = record.plan.vary == "workers"
        speed_up = _ratios(own, candidate.rounds_at(fewest)) if several else None
        rows.append(
            Speed(
                candidate=candidate,
                value=value,
                threads=own[0].threads,
                train=train,
                ratio=_ratios(own, baseline),
                own_layer=spread_of_some(
                    statistics.median(n.own_layer) for n in own if n.own_layer
                ),
                products=per_second(own, lambda each: each.products),
                of_own_limit=spread(each.of_own_limit for each in own),
                peak=peak,
                of_peak=peak and statistics.median(each.gigaflops for each in own) / peak,
                generate=spread(1 / statistics.median(each.generation) for each in own),
                importing=spread(each.importing for each in own),
                first=spread(each.first for each in own),
                memory=_mebibytes(each.memory for each in own),
                device_memory=_mebibytes(each.device_memory for each in own),
                speed_up=speed_up,
                efficiency=speed_up and Spread(*(share * part for part in speed_up)),
                exchange=spread_of_some(
                    1000 * max(1e-12, each.seconds - statistics.median(each.without_exchange))
                    for each in own
                    if each.without_exchange
                ),
            )
        )
    return rows


def qualities(record: Comparison) -> list[Quality]:
    """The results of each candidate's trials."""
    rows = []
    for candidate in record.candidates:
        finished = candidate.finished
        ends = [trial.epochs[-1] for trial in finished]
        held_out = [end.held_out for end in ends if end.held_out is not None]
        reached = [trial for trial in finished if record.plan.is_reached(trial.epochs[-1].held_out)]
        rows.append(
            Quality(
                candidate=candidate,
                comparisons=finished[0].comparisons if finished else 0,
                perplexity=[end.perplexity for end in ends],
                held_out=held_out,
                bits_per_character=statistics.fmean(map(math.log2, held_out)) if held_out else None,
                seeds=len(finished),
                target_reached=len(reached),
                target_seconds=[trial.seconds for trial in reached],
                target_epochs=[len(trial.epochs) for trial in reached],
            )
        )
    return rows


def _ratios(own: Sequence[Round], other: Sequence[Round]) -> Spread | None:
    # How many times as fast, in each round that both have: what slows a round slows both.
    seconds = {each.number: each.seconds for each in other}
    return spread_of_some(
        seconds[each.number] / each.seconds for each in own if each.number in seconds
    )


def _mebibytes(sizes: Iterable[int | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return max(known) / 2**20 if known else None
