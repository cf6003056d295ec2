"""A comparison in sentences: what it has shown, and the prose of the templates about it."""

import math
from collections.abc import Sequence
from importlib.resources import files
from statistics import fmean

from jinja2 import Environment, StrictUndefined

from ..contract import VARIANTS
from . import certainty, changes, metrics
from .certainty import FASTER, SLOWER, TOO_FEW
from .changes import Change
from .metrics import Speed, Spread
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
    rows = changes.speeds(record)
    if not (record.against and rows):
        return ""
    before = f"the comparison of {record.against.started}"
    if all(row.verdict == TOO_FEW for row in rows):
        return f"There are too few processes to tell what has changed since {before}."

    def name(change: Change) -> str:
        title, value = change.now.candidate.title, change.now.value
        return title if value is None else f"{title} ({record.plan.vary} {value})"

    parts = []
    for verdict in (FASTER, SLOWER):
        if names := [name(row) for row in rows if row.verdict == verdict]:
            parts.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {verdict}")
    if not parts:
        return f"No candidate is measurably faster or slower than in {before}."
    return f"Compared with {before}, {', and '.join(parts)}."


def fastest(record: Comparison) -> str:
    """The fastest candidates, at the first value of what is varied."""
    rows = [row for row in metrics.speeds(record) if row.value == record.plan.points[0]]
    if len(rows) < 2:
        return ""
    best = max(rows, key=lambda row: row.train.median)
    # Those whose processes are not all slower than all of the best.
    equal = [row for row in rows if row.train.high >= best.train.low]
    titles = listed([row.candidate.title for row in equal])
    threads = "one thread" if best.threads == 1 else f"{best.threads} threads"
    where = f"With {threads} and {record.settings.num_hiddens} hidden units"
    speed = f"{_interval([row.train.median for row in equal], ',.0f')} characters per second"
    baseline = record.baseline
    if all(row.candidate is not baseline for row in equal) and best.ratio:
        ratios = [row.ratio.median for row in equal if row.ratio]
        speed += f", {_interval(ratios, '.1f')} times that of {baseline.title}"
    if len(equal) == 1:
        return f"{where}, {titles} has the highest median speed: {speed}."
    if len(equal) == len(rows):
        return f"{where}, there is no measurable difference between {titles}: {speed}."
    return (
        f"{where}, {titles} have the highest median speeds, with no measurable difference between "
        f"them: {speed}."
    )


def scaling(record: Comparison) -> str:
    """How the distance between the fastest and the slowest changes with what is varied."""
    rows = metrics.speeds(record)
    sizes = sorted({row.value for row in rows if row.value is not None})
    if len(sizes) < 2 or len({row.candidate.name for row in rows}) < 2:
        return ""

    def distance(size: int) -> float:
        medians = [row.train.median for row in rows if row.value == size]
        return max(medians) / min(medians)

    return (
        f"The fastest candidate is {distance(sizes[0]):.1f} times as fast as the slowest with "
        f"{sizes[0]} {VARIED[record.plan.vary or '']}, and {distance(sizes[-1]):.1f} times with "
        f"{sizes[-1]}."
    )


def workers(record: Comparison) -> str:
    """What the most workers gain, and which share of a minibatch's time the exchange takes."""
    rows = [row for row in metrics.speeds(record) if row.speed_up and row.exchange]
    rows = [row for row in rows if row.value == rows[-1].value]
    if not rows:
        return ""
    gains, costs = _medians(rows, "speed_up"), _medians(rows, "exchange")
    fewest = record.plan.values[0]
    return (
        f"{rows[0].value} workers train {_interval(gains, '.2f')} times as fast as "
        f"{'one' if fewest == 1 else fewest}; of a minibatch, the exchange takes "
        f"{_interval(costs, '.1f')} ms."
    )


def results(record: Comparison) -> str:
    """Where the training runs have ended: at which perplexity, or how soon at the target."""
    if record.plan.target is not None:
        return _times_to_target(record, record.plan.target)
    ends = [fmean(row.perplexity) for row in metrics.qualities(record) if row.perplexity]
    if len(ends) < 2:
        return ""
    interval = _interval(ends, ".3f").replace(" to ", " and ")
    interval = f"is {'between ' if ' and ' in interval else ''}{interval}"
    epochs = record.settings.num_epochs
    after = f"after {epochs} epoch{'' if epochs == 1 else 's'}"
    if max(ends) < ALIKE * min(ends):
        return f"All end at about the same perplexity: {after} it {interval}."
    return f"{after.capitalize()} the perplexity {interval}."


def _times_to_target(record: Comparison, target: float) -> str:
    rows = [row for row in metrics.qualities(record) if row.seeds]
    if not rows:
        return ""
    always = "always " if max(row.seeds for row in rows) > 1 else ""
    reached = sorted(
        (fmean(row.target_seconds), row.candidate.title)
        for row in rows
        if row.target_reached == row.seeds
    )
    if not reached:
        return f"No candidate has {always}reached a held-out perplexity of {target:g}."
    ends = (reached[0], reached[-1])
    first, last = (f"by {title} after {seconds:.1f} s" for seconds, title in ends)
    words = f"first {first}, last {last}" if len(reached) > 1 else first
    others = [row.candidate.title for row in rows if row.target_reached < row.seeds]
    without = f", and not {always}by {listed(others)}" if others else ""
    return f"A held-out perplexity of {target:g} is reached {words} of training{without}."


def own_layers(record: Comparison) -> str:
    """How the code written by hand compares with the frameworks' own layers."""
    rows = [row for row in metrics.speeds(record) if row.own_layer]
    rows = [row for row in rows if row.value == rows[0].value]
    parts = [
        f"`{model}` is {_interval(ratios, '.2f')} times as fast"
        for model in VARIANTS
        if (ratios := _medians([row for row in rows if row.candidate.model == model], "own_layer"))
    ]
    return f"Compared with the frameworks' own layers, {' and '.join(parts)}." if parts else ""


def setting(record: Comparison) -> list[str]:
    """What was compared, and where: a few lines."""
    started = {each.place: each.ready for each in record.candidates if each.ready}
    devices = {place: ready.device for place, ready in started.items()}
    words = ", ".join(f"{device} ({place})" for place, device in devices.items())
    if len(set(devices.values())) < 2:
        words = next(iter(devices.values()), record.plan.device)
    models = list(dict.fromkeys(candidate.model for candidate in record.candidates))
    more = {"devices": words, "started": started, "models": models, "descriptions": DESCRIPTIONS}
    return _lines("setting.txt", record, **more)


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
    )


def float64(record: Comparison) -> str:
    """What the picture of the divergence shows."""
    curves = _curves(record)
    if not curves:
        return ""
    early, last = max(max(curve[:10]) for curve in curves), max(curve[-1] for curve in curves)
    worst = max(map(max, curves))
    figures = {"early": early, "last": last, "worst": worst, "GROWN": GROWN}
    return "".join(_lines("divergence.txt", record, curves=curves, **figures))


def _lines(template: str, record: Comparison, **more: object) -> list[str]:
    source = files(__package__).joinpath(f"templates/{template}").read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    names = {name: getattr(record, name) for name in ("machine", "plan", "settings", "text")}
    text = environment.from_string(source).render(
        record=record, certainty=certainty, **names, **more
    )
    return [line for line in text.split("\n") if line]


def _curves(record: Comparison) -> list[list[float]]:
    # The differences to NumPy, update by update, of each candidate that has any.
    return [each.differences for each in record.candidates if any(each.differences)]


def _medians(rows: Sequence[Speed], what: str) -> list[float]:
    spreads: list[Spread | None] = [getattr(row, what) for row in rows]
    return [spread.median for spread in spreads if spread]


def listed(names: Sequence[str]) -> str:
    """ "A, B and C"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _interval(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
