"""The figures of a comparison, computed from its record alone."""

import math
import statistics
from collections.abc import Iterable, Sequence
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
    environment: str  # its name; empty: the common one
    value: int | None
    threads: int | None
    reason: str  # why there are no figures, or no more; empty if nothing failed
    train: Spread | None  # characters/s of training
    ratio: Spread | None  # to the baseline, round by round
    own_layer: Spread | None  # to the framework's own layer, in turns in one process
    products: Spread | None  # characters/s that the matrix products alone would allow
    of_own_limit: Spread | None  # share of that
    of_machine_limit: float | None  # share of the best of all candidates' limits
    generate: Spread | None  # characters/s
    generate_own_layer: Spread | None  # to the framework's own layer
    importing: Spread | None  # s
    first: Spread | None  # s of the first minibatch
    memory: float | None  # MiB of the process at most
    device_memory: float | None  # MiB on the device at most
    speed_up: Spread | None  # to the fewest workers, round by round; where workers are varied
    efficiency: Spread | None  # speed-up for each time as many workers
    exchange: Spread | None  # milliseconds of a minibatch that the exchange takes


class Quality(NamedTuple):
    """The result of a candidate's training."""

    candidate: str
    reason: str
    comparisons: int | None  # with the reference, all passed
    perplexity: Spread | None  # of the last epoch: mean, lowest, highest of the seeds
    deviation: float | None  # standard deviation over the seeds
    seeds: int
    held_out: Spread | None  # perplexity of the held-out text, likewise
    bits: float | None  # for each of its characters, mean of the seeds
    seconds: Spread | None  # of training until the target was reached: mean, lowest, highest
    seconds_deviation: float | None
    epochs: Spread | None  # likewise
    epochs_deviation: float | None
    reached: int  # by this number of seeds
    parameters: str  # digest of the starting parameters
    minibatches: str  # digest of all minibatches
    sample: str


def spread(values: Iterable[float]) -> Spread | None:
    """Median, lowest and highest; None of no values."""
    numbers = list(values)
    return Spread(statistics.median(numbers), min(numbers), max(numbers)) if numbers else None


def baseline(record: Record) -> str:
    """The candidate to which ratios are taken: the first one that its backend offers."""
    candidates = record["candidates"]
    offered = [each for each in candidates if each["state"] != "not offered"]
    return name((offered or candidates)[0])


def speed_at(candidate: Candidate, value: int | None) -> dict[str, Any]:
    """What was measured of a candidate's speed at one value of what is varied."""
    return next(speed for speed in candidate["speed"] if speed["value"] == value)


def minibatch_seconds(measurement: dict[str, Any]) -> float:
    """The median time of a minibatch in one process, in seconds."""
    return statistics.median(measurement["minibatches"])


def products_share(measurement: dict[str, Any]) -> float:
    """The share of a process's time that its matrix products alone take, from 0 to 1.

    Turn by turn, because what slows the machine for a moment slows both.
    """
    turns = zip(measurement["products"], measurement["minibatches"])
    return statistics.median(products / minibatch for products, minibatch in turns)


def speeds(record: Record) -> list[Speed]:
    """A row for each candidate that was timed or should have been, and each value."""
    values = [speed["value"] for speed in record["candidates"][0]["speed"]]
    return [row for value in values for row in _speeds_at(record, value)]


def _speeds_at(record: Record, value: int | None) -> list[Speed]:
    settings = {**record["settings"], **_varied(record, value)}
    tokens = settings["batch_size"] * settings["num_steps"]
    rounds: dict[str, dict[int, Any]] = {  # by candidate, then by number
        name(candidate): {each["round"]: each for each in speed_at(candidate, value)["rounds"]}
        for candidate in record["candidates"]
    }
    limits = {
        key: spread(tokens / statistics.median(each["products"]) for each in own.values())
        for key, own in rounds.items()
    }
    best = max((limit.median for limit in limits.values() if limit), default=math.nan)
    rows = []
    for candidate in record["candidates"]:
        if candidate["state"] == "not offered":
            continue
        key, speed = name(candidate), speed_at(candidate, value)
        own = list(rounds[key].values())
        train = spread(tokens / minibatch_seconds(each) for each in own)
        speed_up, efficiency = _speed_ups(record, candidate, rounds[key], value)
        rows.append(
            Speed(
                candidate=key,
                backend=candidate["backend"],
                model=candidate["model"],
                environment=candidate.get("at", ""),
                value=value,
                threads=speed.get("threads"),
                reason=speed.get("reason", candidate.get("reason", "")),
                train=train,
                ratio=_ratios(rounds[key], rounds[baseline(record)]),
                own_layer=_own_layer(own, "minibatches"),
                products=limits[key],
                of_own_limit=spread(products_share(each) for each in own),
                of_machine_limit=train.median / best if train else None,
                generate=spread(1 / statistics.median(each["generation"]) for each in own),
                generate_own_layer=_own_layer(own, "generation"),
                importing=spread(each["import"] for each in own),
                first=spread(each["first"] for each in own),
                memory=_mebibytes(each["memory"] for each in own),
                device_memory=_mebibytes(each["device_memory"] for each in own),
                speed_up=speed_up,
                efficiency=efficiency,
                exchange=spread(map(_exchange, filter(_exchanges, own))),
            )
        )
    return rows


def qualities(record: Record) -> list[Quality]:
    """A row for each candidate: its check, its perplexity, a sample of its text."""
    rows = []
    for candidate in record["candidates"]:
        finished = [training for training in candidate["trainings"] if "samples" in training]
        ends = [training["perplexity"][-1] for training in finished]
        first = finished[0] if finished else {}
        held_out = [training["held_out"][-1] for training in finished if _is_held_out(training)]
        reached = [training for training in finished if training.get("reached")]
        seconds = [sum(training["seconds"]) for training in reached]
        epochs = [len(training["perplexity"]) for training in reached]
        rows.append(
            Quality(
                candidate=name(candidate),
                reason=candidate.get("reason", ""),
                comparisons=candidate.get("check", {}).get("comparisons") if finished else None,
                perplexity=_mean(ends),
                deviation=_deviation(ends),
                seeds=len(ends),
                held_out=_mean(held_out),
                bits=statistics.fmean(map(math.log2, held_out)) if held_out else None,
                seconds=_mean(seconds),
                seconds_deviation=_deviation(seconds),
                epochs=_mean(epochs),
                epochs_deviation=_deviation(epochs),
                reached=len(reached),
                parameters=first.get("parameters", ""),
                minibatches=first.get("minibatches seen", ""),
                sample=first.get("samples", [""])[0],
            )
        )
    return rows


def _is_held_out(training: dict[str, Any]) -> bool:
    # Whether it has a perplexity of held-out text that is not too large for a float.
    return bool(training.get("held_out")) and training["held_out"][-1] is not None


def _mean(values: Sequence[float]) -> Spread | None:
    return Spread(statistics.fmean(values), min(values), max(values)) if values else None


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _varied(record: Record, value: int | None) -> dict[str, Any]:
    vary = record["plan"]["vary"]
    return {vary["name"]: value} if vary and vary["name"] not in ("threads", "workers") else {}


def _speed_ups(
    record: Record, candidate: Candidate, rounds: dict[int, Any], value: int | None
) -> tuple[Spread | None, Spread | None]:
    # How many times as fast as with the fewest workers, and that for each time as many.
    vary = record["plan"]["vary"]
    if value is None or not vary or vary["name"] != "workers":
        return None, None
    fewest = vary["values"][0]
    before = {each["round"]: each for each in speed_at(candidate, fewest)["rounds"]}
    ratios = _ratios(rounds, before)
    if ratios is None:
        return None, None
    return ratios, Spread(*(ratio * fewest / value for ratio in ratios))


def _exchanges(measurement: dict[str, Any]) -> bool:
    return bool(measurement.get("without_exchange"))


def _exchange(measurement: dict[str, Any]) -> float:
    apart = statistics.median(measurement["without_exchange"])
    return 1000 * max(0.0, minibatch_seconds(measurement) - apart)


def _ratios(own: dict[int, Any], other: dict[int, Any]) -> Spread | None:
    # How many times as fast, in each round that both have: what slows a round slows both.
    return spread(
        minibatch_seconds(other[n]) / minibatch_seconds(own[n]) for n in own.keys() & other.keys()
    )


def _own_layer(own: list[dict[str, Any]], what: str) -> Spread | None:
    # How many times as fast as the framework's own layer: the median of each process's turns.
    return spread(
        statistics.median(pair["layer"] / pair["model"] for pair in each["own_layer"][what])
        for each in own
        if "own_layer" in each
    )


def _mebibytes(sizes: Iterable[int | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return max(known) / 2**20 if known else None
