"""What a comparison has shown, in sentences computed from its record."""

from collections.abc import Sequence
from typing import Any

from ..contract import VARIANTS
from ..registry import FRAMEWORKS
from . import certainty, summary
from .plan import Record, Spec, name, spec_of
from .summary import Speed

ALIKE = 1.05  # ratio of perplexities up to which they are called about the same
GROWN, PERCENT = 1e-11, 1e-2  # relative differences: larger than rounding, and visible


def sentences(record: Record) -> list[str]:
    """The conclusions of a record, three at most.

    What has changed since an older comparison comes first, then speed, results, own layers.
    """
    vary = record["plan"]["vary"]
    speed = fastest(record)
    if vary and vary["name"] == "workers":
        speed = workers(record)
    elif vary and vary["name"] != "threads":
        speed = scaling(record)
    lines = (changes(record), speed, results(record), own_layers(record))
    return [line for line in lines if line][:3]


def changes(record: Record) -> str:
    """Which candidates are faster or slower than in the older comparison, if there is one."""
    rows = [row for row in record.get("against", {}).get("speeds", []) if "verdict" in row]
    if not rows:
        return ""
    before = f"the comparison of {record['against']['started']}"
    if all(row["verdict"] == certainty.TOO_FEW for row in rows):
        return f"There are too few processes to tell what has changed since {before}."
    parts = []
    for verdict in (certainty.FASTER, certainty.SLOWER):
        names = [_at_value(record, row) for row in rows if row["verdict"] == verdict]
        if names:
            parts.append(f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {verdict}")
    if not parts:
        return f"No candidate is measurably faster or slower than in {before}."
    return f"Compared with {before}, {', and '.join(parts)}."


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _at_value(record: Record, row: dict[str, Any]) -> str:
    where = "" if row["value"] is None else f" ({record['plan']['vary']['name']} {row['value']})"
    return _title(record, row["candidate"]) + where


def fastest(record: Record) -> str:
    """The fastest candidate, at the first value of what is varied."""
    rows = [row for row in summary.speeds(record) if row.train and row.ratio]
    rows = [row for row in rows if row.value == rows[0].value]
    if len(rows) < 2:
        return ""
    best = max(rows, key=lambda row: row.train.median if row.train else 0)
    assert best.train
    assert best.ratio
    threads = "one thread" if best.threads == 1 else f"{best.threads} threads"
    first = next(each for each in record["candidates"] if each["state"] != "not offered")
    compared = f", {best.ratio.median:.1f} times that of {title(spec_of(first))}"
    return (
        f"With {threads} and {record['settings']['num_hiddens']} hidden units, "
        f"{title(_spec(best))} has the highest median speed: {best.train.median:,.0f} characters "
        f"per second{'' if _spec(best) == spec_of(first) else compared}."
    )


def scaling(record: Record) -> str:
    """How the distance between the fastest and the slowest changes with what is varied."""
    rows = [row for row in summary.speeds(record) if row.train]
    sizes = sorted({row.value for row in rows if row.value is not None})
    if len(sizes) < 2 or len({row.candidate for row in rows}) < 2:
        return ""

    def spread(size: int) -> float:
        medians = [row.train.median for row in rows if row.value == size and row.train]
        return max(medians) / min(medians)

    what = {"num_hiddens": "hidden units", "batch_size": "rows", "num_steps": "time steps"}
    unit = what.get(record["plan"]["vary"]["name"], record["plan"]["vary"]["name"])
    return (
        f"The fastest candidate is {spread(sizes[0]):.1f} times as fast as the slowest with "
        f"{sizes[0]} {unit}, and {spread(sizes[-1]):.1f} times with {sizes[-1]}."
    )


def workers(record: Record) -> str:
    """What the most workers gain, and which share of a minibatch's time the exchange takes."""
    rows = [row for row in summary.speeds(record) if row.speed_up and row.exchange and row.train]
    rows = [row for row in rows if row.value == max(each.value or 0 for each in rows)]
    if not rows:
        return ""
    gains = [row.speed_up.median for row in rows if row.speed_up]
    costs = [row.exchange.median for row in rows if row.exchange]
    fewest = record["plan"]["vary"]["values"][0]
    return (
        f"{rows[0].value} workers train {_interval(gains, '.2f')} times as fast as "
        f"{'one' if fewest == 1 else fewest}; of a minibatch, the exchange takes "
        f"{_interval(costs, '.1f')} ms."
    )


def results(record: Record) -> str:
    """Where the training runs have ended: at which perplexity, or how soon at the target."""
    rows = [row for row in summary.qualities(record) if row.perplexity]
    if not rows:
        return ""
    if target := record["plan"].get("target"):
        reached = {row.candidate: row for row in rows if row.seconds and row.reached == row.seeds}
        if not reached:
            runs = (
                "candidate has" if max(row.seeds for row in rows) == 1 else "candidate has always"
            )
            return f"No {runs} reached a held-out perplexity of {target:g}."
        by_time = sorted(reached.values(), key=lambda row: row.seconds.median if row.seconds else 0)
        first, last = by_time[0], by_time[-1]
        assert first.seconds
        assert last.seconds
        words = f"by {_title(record, first.candidate)} after {first.seconds.median:.1f} s"
        if last is not first:
            words = (
                f"first {words}, last by {_title(record, last.candidate)} after "
                f"{last.seconds.median:.1f} s"
            )
        others = [_title(record, row.candidate) for row in rows if row.candidate not in reached]
        always = "" if max(row.seeds for row in rows) == 1 else "always "
        without = f", and not {always}by {_listed(others)}" if others else ""
        return f"A held-out perplexity of {target:g} is reached {words} of training{without}."
    ends = [row.perplexity.median for row in rows if row.perplexity]
    if len(ends) < 2:
        return ""
    low, high = f"{min(ends):.3f}", f"{max(ends):.3f}"
    interval = f"is {low}" if low == high else f"is between {low} and {high}"
    epochs = record["settings"]["num_epochs"]
    after = f"after {epochs} epoch{'' if epochs == 1 else 's'}"
    if max(ends) < ALIKE * min(ends):
        return f"All end at about the same perplexity: {after} it {interval}."
    return f"{after.capitalize()} the perplexity {interval}."


def divergence(records: Sequence[Record]) -> str:
    """When the losses in float64 begin to differ, and when by a percent, on each record's text."""
    parts = []
    for record in records:
        curves = float64_curves(record)
        if not curves:
            continue
        epochs = record["settings"]["num_epochs"]
        worst = [max(updates) for updates in zip(*curves)]
        begins, visible = (_epoch_above(bound, worst, epochs) for bound in (GROWN, PERCENT))
        never = f"not within {epochs} epochs"
        where = f"in epoch {begins}" if begins else never
        if begins:
            where += f" and by 1% {f'in epoch {visible}' if visible else never}"
        parts.append(f"on `{record['text']['corpus']}` {where}")
    if not parts:
        return ""
    return (
        "How soon the losses of the frameworks in float64 diverge depends on the text. They first "
        f"differ by a relative {GROWN:g} {'; '.join(parts)}."
    )


def _epoch_above(bound: float, differences: Sequence[float], epochs: int) -> int | None:
    # The first epoch in which an update's difference is above the bound.
    first = next((n for n, value in enumerate(differences) if value > bound), None)
    return None if first is None else 1 + first * epochs // len(differences)


def float64_curves(record: Record) -> list[list[float]]:
    """The differences to NumPy, update by update, of each candidate that has any."""
    return [
        candidate["float64"]["differences"]
        for candidate in record["candidates"]
        if any(candidate.get("float64", {}).get("differences", []))
    ]


def own_layers(record: Record) -> str:
    """How the code written by hand compares with the frameworks' own layers."""
    rows = [row for row in summary.speeds(record) if row.own_layer]
    rows = [row for row in rows if row.value == rows[0].value]
    parts = []
    for model in VARIANTS:
        ratios = [row.own_layer.median for row in rows if row.model == model and row.own_layer]
        if ratios:
            parts.append(f"`{model}` is {_interval(ratios, '.2f')} times as fast")
    return f"Compared with the frameworks' own layers, {' and '.join(parts)}." if parts else ""


def title(spec: Spec) -> str:
    """A candidate in a sentence, such as "PyTorch's `fast`"."""
    framework = {"numpy": "NumPy", **FRAMEWORKS}.get(spec.backend, spec.backend)
    where = f" ({spec.environment})" if spec.environment else ""
    return f"{framework}'s `{spec.model}`{where}"


def _interval(values: list[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _title(record: Record, candidate: str) -> str:
    rows = {name(each): each for each in record["candidates"]}
    return title(spec_of(rows[candidate])) if candidate in rows else candidate


def _spec(row: Speed) -> Spec:
    return Spec(row.backend, row.model, row.environment)
