"""A comparison in sentences: what it has shown, and the prose of the templates about it."""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from . import certainty, changes, metrics
from .record import VARIED, Comparison

DESCRIPTIONS = {
    "scratch": "plain code",
    "fast": "optimized by hand",
    "concise": "the framework's own layers",
}
ALIKE = 1.05  # ratio of perplexities up to which they are called about the same
GROWN = 1e-11  # relative difference that is more than rounding


def conclusions(record: Comparison) -> list[str]:
    """The conclusions of a record, three at most.

    What has changed since an older comparison comes first, then speed, results, own layers.
    """
    about_speed = {None: fastest, "threads": fastest, "workers": workers}
    speed = about_speed.get(record.plan.vary, scaling)
    lines = (changed(record), speed(record), results(record), own_layers(record))
    return [line for line in lines if line][:3]


def changed(record: Comparison) -> str:
    """Which candidates are faster or slower than in the older comparison, if there is one."""
    return _conclusion("changed", record, changes=changes.speeds(record))


def fastest(record: Comparison) -> str:
    """The fastest candidates, at the first value of what is varied."""
    rows = [row for row in metrics.speeds(record) if row.value == record.plan.points[0]]
    if len(rows) < 2:
        return ""
    best = max(rows, key=lambda row: row.train.median)
    # Those whose processes are not all slower than all of the best.
    equal = [row for row in rows if row.train.high >= best.train.low]
    return _conclusion("fastest", record, rows=rows, best=best, equal=equal)


def scaling(record: Comparison) -> str:
    """How the distance between the fastest and the slowest changes with what is varied."""
    rows = metrics.speeds(record)
    if len({row.candidate.name for row in rows}) < 2:
        return ""
    distances: dict[int | None, float | None] = {}  # None: not measurable
    for value in dict.fromkeys(row.value for row in rows):
        speeds = sorted(row.train for row in rows if row.value == value)
        slowest, best = speeds[0], speeds[-1]
        overlap = slowest.high >= best.low
        distances[value] = None if overlap else best.median / slowest.median
    return _conclusion("scaling", record, distances=list(distances.items()), units=VARIED)


def workers(record: Comparison) -> str:
    """What the most workers gain, and which share of a minibatch's time the exchange takes."""
    rows = [row for row in metrics.speeds(record) if row.speed_up and row.exchange]
    most = [row for row in rows if row.value == rows[-1].value]
    return _conclusion("workers", record, rows=most)


def results(record: Comparison) -> str:
    """Where the trials have ended: at which perplexity, or how soon at the target."""
    rows = [row for row in metrics.qualities(record) if row.seeds]
    if record.plan.target is None:
        ends = [fmean(row.perplexity) for row in rows]
        return _conclusion("perplexities", record, ends=ends, ALIKE=ALIKE)
    reached = [row for row in rows if row.target_reached == row.seeds]
    times = sorted((fmean(row.target_seconds), row.candidate.title) for row in reached)
    others = [row.candidate.title for row in rows if row not in reached]
    return _conclusion("target", record, rows=rows, times=times, others=others)


def own_layers(record: Comparison) -> str:
    """How the code written by hand compares with the frameworks' own layers."""
    rows = [row for row in metrics.speeds(record) if row.own_layer]
    first = [row for row in rows if row.value == rows[0].value]
    return _conclusion("own_layers", record, rows=first)


def setting(record: Comparison) -> list[str]:
    """What was compared, and where: a few lines."""
    started = {each.place: each.ready for each in record.candidates if each.ready}
    return _lines("setting.txt", record, started=started, descriptions=DESCRIPTIONS)


def notes(record: Comparison) -> list[str]:
    """What a reader needs to know to judge the tables."""
    return _lines(
        "notes.txt",
        record,
        log2=math.log2,
        speeds=metrics.speeds(record),
        common=changes.speeds(record),
        differences=changes.differences(record),
    )


def method(record: Comparison) -> list[str]:
    """How the figures were measured."""
    rows = metrics.speeds(record)
    # Of processes; fewer than planned after an interruption or a failure.
    numbers = [len(row.candidate.rounds_at(row.value)) for row in rows]
    return _lines(
        "method.txt",
        record,
        fewest=min(numbers, default=0),
        most=max(numbers, default=0),
        with_layers=any(row.own_layer for row in rows),
        peaks=dict.fromkeys(f"{row.peak:.0f}" for row in rows if row.peak),
    )


def float64(record: Comparison) -> str:
    """What the picture of the divergence shows."""
    curves = [each.differences for each in record.candidates if any(each.differences)]
    if not curves:
        return ""
    early, last = max(max(curve[:10]) for curve in curves), max(curve[-1] for curve in curves)
    worst = max(map(max, curves))
    figures = {"early": early, "last": last, "worst": worst, "GROWN": GROWN}
    return "".join(_lines("divergence.txt", record, curves=curves, **figures))


def _lines(template: str, record: Comparison, **more: object) -> list[str]:
    text = _template(template, record).render(**more)
    return [line for line in text.split("\n") if line]


def _conclusion(name: str, record: Comparison, **values: object) -> str:
    macro = getattr(_template("conclusions.txt", record).module, name)
    return " ".join(str(macro(**values)).split())


def _template(name: str, record: Comparison) -> Template:
    common = {name: getattr(record, name) for name in ("machine", "plan", "settings", "text")}
    return templates().get_template(
        name, None, {"record": record, "certainty": certainty, **common}
    )


def templates(**more: Any) -> Environment:
    """The templates of this room, with these further arguments of their environment."""
    loader = PackageLoader(__package__)
    more = {"loader": loader, "undefined": StrictUndefined, **more}
    environment = Environment(trim_blocks=True, lstrip_blocks=True, **more)
    environment.filters |= {"listed": listed, "interval": _interval}
    return environment


def listed(names: Iterable[str]) -> str:
    """ "A, B and C"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _interval(values: Iterable[float], form: str) -> str:
    numbers = sorted(values)
    low, high = format(numbers[0], form), format(numbers[-1], form)
    return low if low == high else f"{low} to {high}"
