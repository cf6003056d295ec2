"""What has changed since an older comparison, computed from the two records alone."""

from collections.abc import Sequence
from typing import Any

from . import certainty, summary
from .plan import Candidate, Record, name
from .summary import minibatch_seconds, products_share, speed_at


def against(new: Record, old: Record) -> list[dict[str, Any]]:
    """The speeds of a record that an older one has too, side by side, with their ratio."""
    earlier = {(row.candidate, row.value): row for row in summary.speeds(old)}
    pairs = [(row, earlier.get((row.candidate, row.value))) for row in summary.speeds(new)]
    limits = [  # with their changes
        (now.backend, now.value, now.products.median / before.products.median)
        for now, before in pairs
        if now.products and before and before.products and _alike(new, old, now.candidate)
    ]
    rows = []
    for now, before in pairs:
        if now.train is None or before is None or before.train is None:
            continue
        then, today = (
            speed_at(_named(each, now.candidate), now.value)["rounds"] for each in (old, new)
        )
        corrected = _alike(new, old, now.candidate)
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
                "before": list(before.train),
                "now": list(now.train),
                "ratio": ratio,
                "verdict": _verdict(then, today, corrected, ratio, drifts),
                "corrected": corrected,
                "ratio_to_first_before": list(before.ratio) if before.ratio else None,
                "ratio_to_first_now": list(now.ratio) if now.ratio else None,
            }
        )
    return rows


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


def _named(record: Record, candidate: str) -> Candidate:
    return next(each for each in record["candidates"] if name(each) == candidate)


def _alike(new: Record, old: Record, candidate: str) -> bool:
    # Whether the candidate has the same versions on the same processor in both.
    now, before = (_named(record, candidate).get("environment") for record in (new, old))
    return now == before and new["machine"]["processor"] == old["machine"]["processor"]
