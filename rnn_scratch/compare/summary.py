"""The figures of a comparison, computed from its record and from nothing else."""

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .plan import Candidate, Record, name


class Spread(NamedTuple):
    """The median of several measurements, with the lowest and the highest."""

    median: float
    low: float
    high: float


class Speed(NamedTuple):
    """A candidate's speed, at one value of what is varied."""

    candidate: str
    backend: str
    model: str
    value: int | None
    threads: int | None
    reason: str  # why there is nothing, or no more, to show; empty where all went well
    train: Spread | None  # characters/s of training
    ratio: Spread | None  # to the first candidate, round by round
    own_layer: Spread | None  # from scratch to concise, in turns in one process
    products: Spread | None  # characters/s that the matrix products alone would allow
    of_own_limit: Spread | None  # share of that
    of_machine_limit: float | None  # share of the best of all candidates'
    generate: Spread | None  # characters/s
    generate_own_layer: Spread | None  # from scratch to concise
    importing: Spread | None  # s
    first: Spread | None  # s of the first minibatch
    memory: float | None  # MiB of the process at most
    device_memory: float | None  # MiB of the device at most


class Quality(NamedTuple):
    """What a candidate's training came to."""

    candidate: str
    reason: str
    comparisons: int | None  # passed with the reference
    perplexity: Spread | None  # of the last epoch: mean, lowest, highest of the seeds
    deviation: float | None  # standard deviation over the seeds
    seeds: int
    parameters: str  # digest of the starting parameters
    minibatches: str  # digest of all minibatches
    sample: str


def spread(values: Iterable[float]) -> Spread | None:
    """Median, lowest and highest; None of nothing."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found)) if found else None


def speeds(record: Record) -> list[Speed]:
    """A row for each candidate that was timed or should have been, and each value."""
    values = [speed["value"] for speed in record["candidates"][0]["speed"]]
    return [row for value in values for row in _speeds_at(record, value)]


def _speeds_at(record: Record, value: int | None) -> list[Speed]:
    settings = {**record["settings"], **_varied(record, value)}
    tokens = settings["batch_size"] * settings["num_steps"]
    rounds: dict[str, dict[int, Any]] = {}  # by candidate, then by number
    for candidate in record["candidates"]:
        found = _at(candidate, value)["rounds"]
        rounds[name(candidate)] = {one["round"]: one for one in found}
    limits = {
        key: spread(tokens / statistics.median(one["products"]) for one in found.values())
        for key, found in rounds.items()
    }
    best = max((limit.median for limit in limits.values() if limit), default=math.nan)
    first = name(record["candidates"][0])
    rows = []
    for candidate in record["candidates"]:
        if candidate["state"] == "not offered":
            continue
        key, speed = name(candidate), _at(candidate, value)
        own = list(rounds[key].values())
        train = spread(tokens / statistics.median(one["minibatches"]) for one in own)
        rows.append(
            Speed(
                key, candidate["backend"], candidate["model"], value,
                speed.get("threads"), speed.get("reason", candidate.get("reason", "")),
                train,
                _ratios(rounds[key], rounds[first], _minibatch),
                _beside(own, "minibatches"),
                limits[key],
                spread(statistics.median(one["products"]) / _minibatch(one) for one in own),
                train.median / best if train else None,
                spread(1 / _character(one) for one in own),
                _beside(own, "generation"),
                spread(one["import"] for one in own),
                spread(one["first"] for one in own),
                _mebibytes(one["memory"] for one in own),
                _mebibytes(one["device_memory"] for one in own),
            )
        )  # fmt: skip
    return rows


def qualities(record: Record) -> list[Quality]:
    """A row for each candidate: its check, its perplexity, what it writes."""
    rows = []
    for candidate in record["candidates"]:
        whole = [training for training in candidate["trainings"] if "samples" in training]
        ends = [training["perplexity"][-1] for training in whole]
        start = whole[0] if whole else {}
        rows.append(
            Quality(
                name(candidate),
                candidate.get("reason", ""),
                candidate.get("check", {}).get("comparisons") if whole else None,
                Spread(statistics.fmean(ends), min(ends), max(ends)) if ends else None,
                statistics.stdev(ends) if len(ends) > 1 else None,
                len(ends),
                start.get("parameters", ""),
                start.get("minibatches seen", ""),
                start.get("samples", [""])[0],
            )
        )
    return rows


def against(new: Record, old: Record) -> list[dict[str, Any]]:
    """The speeds of a record that an older one has too, side by side, with their ratio."""
    before = {(row.candidate, row.value): row for row in speeds(old) if row.train}
    rows = []
    for row in speeds(new):
        earlier = before.get((row.candidate, row.value))
        if row.train is None or earlier is None or earlier.train is None:
            continue
        rows.append(
            {
                "candidate": row.candidate,
                "value": row.value,
                "before": list(earlier.train),
                "now": list(row.train),
                "ratio": row.train.median / earlier.train.median,
                "ratio_to_first_before": list(earlier.ratio) if earlier.ratio else None,
                "ratio_to_first_now": list(row.ratio) if row.ratio else None,
            }
        )
    return rows


def _varied(record: Record, value: int | None) -> dict[str, Any]:
    vary = record["plan"]["vary"]
    return {vary[0]: value} if vary and vary[0] != "threads" else {}


def _at(candidate: Candidate, value: int | None) -> dict[str, Any]:
    return next(speed for speed in candidate["speed"] if speed["value"] == value)


def _minibatch(one: dict[str, Any]) -> float:
    return statistics.median(one["minibatches"])


def _character(one: dict[str, Any]) -> float:
    return statistics.median(one["generation"])


def _ratios(
    own: dict[int, Any], other: dict[int, Any], seconds: Callable[[dict[str, Any]], float]
) -> Spread | None:
    # How many times as fast, in each round that both have: what slows a round slows both.
    return spread(seconds(other[n]) / seconds(own[n]) for n in own.keys() & other.keys())


def _beside(own: list[dict[str, Any]], what: str) -> Spread | None:
    # How many times as fast as the framework's own layer, of each process the median of its turns.
    return spread(
        statistics.median(layer / scratch for scratch, layer in one["beside"][what])
        for one in own
        if "beside" in one
    )


def _mebibytes(sizes: Iterable[int | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return max(known) / 2**20 if known else None
