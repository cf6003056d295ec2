"""What has changed since an older comparison, computed from the two records alone."""

from typing import Any

from msgspec.structs import asdict

from ..settings import option_of
from . import certainty, metrics
from .record import EQUAL, FASTER, SLOWER, Against, Change, Comparison, Speed

# Settings that do not change what a minibatch costs.
FREE = ("num_epochs", "lr", "sigma", "normalize", "max_tokens", "valid_tokens", "seed")


def against(new: Comparison, old: Comparison) -> Against:
    """An older comparison beside a new one: what differs, and the speeds that both have.

    They are those of the same candidate and the same work.
    """
    earlier = {_work(old, row): row for row in metrics.speeds(old)}
    changes = [
        _change(new, old, now, earlier[work])
        for now in metrics.speeds(new)
        if (work := _work(new, now)) in earlier
    ]
    return Against(old.started, differences(new, old), changes)


def differences(new: Comparison, old: Comparison) -> list[str]:
    """Lines that say in what two comparisons differ, so that no ratio is misread."""
    now, before = _conditions(new), _conditions(old)
    return [
        f"{what}: {before[what]} before, {now[what]} now"
        for what in now
        if what in before and before[what] != now[what]
    ]


def _change(new: Comparison, old: Comparison, now: Speed, before: Speed) -> Change:
    # With the same versions on the same processor, a candidate's matrix products are a yardstick
    # that was in the same process, in turns: what has changed for these as well is the machine and
    # not the candidate. And what has changed for these alone is the yardstick: then the candidate's
    # own times contradict the verdict.
    places = [record.candidate(now.candidate).ready for record in (old, new)]
    versions = [place and place.versions for place in places]
    corrected = versions[0] == versions[1] and old.machine.processor == new.machine.processor
    figures = (
        [
            each.of_own_limit if corrected else 1 / each.seconds
            for each in record.candidate(row.candidate).timing(row.value).rounds
        ]
        for record, row in ((old, before), (new, now))
    )
    change = Change(before, now, certainty.verdict(*figures), corrected)
    if (change.verdict == SLOWER and change.ratio > 1) or (
        change.verdict == FASTER and change.ratio < 1
    ):
        change.verdict = EQUAL
    return change


def _conditions(record: Comparison) -> dict[str, Any]:
    # What two comparisons may differ in, with the versions of each backend that was started.
    plan, text = record.plan, record.text
    conditions = {
        "processor": record.machine.processor,
        **{"device": plan.device, "threads": plan.threads, "TF32": plan.tf32},
        "vary": f"{plan.vary}={','.join(map(str, plan.values))}" if plan.vary else "nothing",
        "text": f"{text.corpus} ({text.sha256[:8]})",
        **{option_of(key): value for key, value in asdict(record.settings).items()},
    }
    for candidate in record.candidates:
        if candidate.ready:
            versions = {**candidate.ready.versions, "Python": candidate.ready.machine.python}
            conditions |= {f"{key} of {candidate.place}": each for key, each in versions.items()}
    return conditions


def _work(record: Comparison, row: Speed) -> tuple[Any, ...]:
    # What identifies a speed in another record: the candidate, and all that a minibatch depends on,
    # whether it is varied there or not.
    plan, ready = record.plan, record.candidate(row.candidate).ready
    work = asdict(record.settings)
    work |= {"threads": plan.threads, "workers": 1, "tf32": plan.tf32}
    work["device"] = ready.device if ready else plan.device
    work["vocabulary"] = record.text.vocabulary
    if plan.vary:
        work[plan.vary] = row.value
    return row.candidate, *(work[key] for key in sorted(work.keys() - set(FREE)))
