"""What has changed since an older comparison, computed from the two records alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..settings import Settings, option_of
from . import certainty, summary
from .plan import Candidate, Record, name, spec_of
from .summary import Speed, Spread, minibatch_seconds, products_share, speed_at

# Settings that do not change what a minibatch costs.
FREE = ("num_epochs", "lr", "sigma", "normalize", "max_tokens", "valid_tokens", "seed")


def against(new: Record, old: Record) -> list[dict[str, Any]]:
    """The speeds of a record that an older one has too, side by side, with their ratio.

    They are those of the same candidate and the same work.
    """
    earlier = {_work(old, row): row for row in summary.speeds(old)}
    pairs = [(row, earlier.get(_work(new, row))) for row in summary.speeds(new)]
    limits = [  # with their changes
        (now.backend, now.value, now.products.median / before.products.median)
        for now, before in pairs
        if now.products and before and before.products and _alike(new, old, now)
    ]
    rows = []
    for now, before in pairs:
        if now.train is None or before is None or before.train is None:
            continue
        then, today = (
            speed_at(_candidate(record, row), row.value)["rounds"]
            for record, row in ((old, before), (new, now))
        )
        corrected = _alike(new, old, now)
        ratio = now.train.median / before.train.median
        drifts = [
            change
            for backend, value, change in limits
            if value == now.value and backend != now.backend
        ]
        rows.append(
            {
                "candidate": now.candidate,
                "value": now.value,
                "before": _named(before.train),
                "now": _named(now.train),
                "ratio": ratio,
                "verdict": _verdict(then, today, corrected, ratio, drifts),
                "corrected": corrected,
                "of_own_limit_before": _named(before.of_own_limit),
                "of_own_limit_now": _named(now.of_own_limit),
                "ratio_to_first_before": _named(before.ratio),
                "ratio_to_first_now": _named(now.ratio),
            }
        )
    return rows


def differences(new: Record, old: Record) -> list[str]:
    """Lines that say in what two comparisons differ, so that no ratio is misread."""
    now, before = (_conditions(record) for record in (new, old))
    return [
        f"{what}: {before[what]} before, {now[what]} now"
        for what in now
        if what in before and before[what] != now[what]
    ]


def _verdict(
    before: list[Any], now: list[Any], corrected: bool, ratio: float, drifts: Sequence[float]
) -> str:
    # Whether the candidate's speed has changed. With the same versions on the same processor, its
    # matrix products are a yardstick that was in the same process, in turns: what has changed for
    # these as well is the machine and not the candidate. And what has changed for these alone is
    # the yardstick: then the candidate's own times contradict the verdict. But on a machine that is
    # faster now, a slower candidate may have shorter times. How much faster the machine is at
    # least, the limits of the other backends show.
    figures = (
        [products_share(each) if corrected else 1 / minibatch_seconds(each) for each in rounds]
        for rounds in (before, now)
    )
    verdict = certainty.verdict(*figures)
    if verdict == certainty.SLOWER and ratio > max(1.0, min(drifts, default=1.0)):
        return certainty.EQUAL
    if verdict == certainty.FASTER and ratio < min(1.0, max(drifts, default=1.0)):
        return certainty.EQUAL
    return verdict


def _conditions(record: Record) -> dict[str, Any]:
    # What two comparisons may differ in, with the versions of each backend that was started.
    plan, text, vary = record["plan"], record["text"], record["plan"]["vary"]
    conditions = {
        "processor": record["machine"]["processor"],
        **{"device": plan["device"], "threads": plan["threads"], "TF32": plan["tf32"]},
        "vary": f"{vary['name']}={','.join(map(str, vary['values']))}" if vary else "nothing",
        "text": f"{text['corpus']} ({text['sha256'][:8]})",
        **{option_of(key): value for key, value in _settings(record).items()},
    }
    for candidate in record["candidates"]:
        if "environment" in candidate:
            place = spec_of(candidate).place
            versions = {**candidate["environment"], "Python": candidate["machine"]["python"]}
            conditions |= {f"{key} of {place}": value for key, value in versions.items()}
    return conditions


def _work(record: Record, row: Speed) -> tuple[Any, ...]:
    # What identifies a speed in another record: the candidate, and all that a minibatch depends on,
    # whether it is varied there or not.
    plan = record["plan"]
    work = _settings(record)
    work |= {"threads": plan["threads"], "workers": 1, "tf32": plan["tf32"]}
    work["device"] = _candidate(record, row).get("device", plan["device"])
    work["vocabulary"] = record["text"]["vocabulary"]
    if plan["vary"]:
        work[plan["vary"]["name"]] = row.value
    return row.candidate, *(work[key] for key in sorted(work.keys() - set(FREE)))


def _settings(record: Record) -> dict[str, Any]:
    # All of them: older records lack some that had the same value everywhere.
    return dataclasses.asdict(Settings(**record["settings"]))


def _candidate(record: Record, row: Speed) -> Candidate:
    return next(each for each in record["candidates"] if name(each) == row.candidate)


def _alike(new: Record, old: Record, row: Speed) -> bool:
    # Whether the candidate has the same versions on the same processor in both.
    now, before = (_candidate(record, row).get("environment") for record in (new, old))
    return now == before and new["machine"]["processor"] == old["machine"]["processor"]


def _named(values: Spread | None) -> dict[str, float] | None:
    return None if values is None else values._asdict()
