"""What has changed since an older comparison, computed from the two records alone."""

from typing import Any, NamedTuple

from msgspec.structs import asdict

from .. import settings
from . import certainty, metrics
from .certainty import EQUAL, FASTER, SLOWER, Verdict
from .metrics import Speed
from .record import Comparison

# Settings that do not change what a minibatch costs.
FREE = (
    *("num_epochs", "lr", "schedule", "warmup", "sigma", "normalize"),
    *("max_tokens", "valid_tokens", "valid_share", "seed"),
)


class Change(NamedTuple):
    """A speed, before and now, and whether it has changed."""

    before: Speed
    now: Speed
    verdict: Verdict
    corrected: bool  # whether shares of the own limit were compared, and not the times

    @property
    def ratio(self) -> float:
        """How many times as fast it is now."""
        return self.now.train.median / self.before.train.median


def speeds(new: Comparison) -> list[Change]:
    """The speeds that a comparison and the older one both have; none without an older one.

    They are those of the same candidate and the same work.
    """
    old = new.against
    if old is None:
        return []
    earlier = {_work(old, row): row for row in metrics.speeds(old)}
    return [
        _change(new, old, now, earlier[work])
        for now in metrics.speeds(new)
        if (work := _work(new, now)) in earlier
    ]


def differences(new: Comparison) -> list[str]:
    """Lines that say in what it differs from the older one, so that no ratio is misread."""
    if new.against is None:
        return []
    return settings.differences(_conditions(new.against), _conditions(new))


def _change(new: Comparison, old: Comparison, now: Speed, before: Speed) -> Change:
    # With the same versions on the same processor, a candidate's matrix products are a yardstick
    # that was in the same process, in turns: what has changed for these as well is the machine and
    # not the candidate. And what has changed for these alone is the yardstick: then the candidate's
    # own times contradict the verdict.
    versions = [row.candidate.ready and row.candidate.ready.versions for row in (before, now)]
    corrected = versions[0] == versions[1] and old.machine.processor == new.machine.processor
    figures = (
        [
            each.of_own_limit if corrected else 1 / each.seconds
            for each in row.candidate.rounds_at(row.value)
        ]
        for row in (before, now)
    )
    change = Change(before, now, certainty.verdict(*figures), corrected)
    if (change.verdict == SLOWER and change.ratio > 1) or (
        change.verdict == FASTER and change.ratio < 1
    ):
        return change._replace(verdict=EQUAL)
    return change


def _conditions(record: Comparison) -> dict[str, Any]:
    # What two comparisons may differ in, with the versions of each backend that was started.
    plan, text = record.plan, record.text
    conditions = {
        "processor": record.machine.processor,
        **{"device": plan.device, "threads": plan.threads, "TF32": plan.tf32},
        "vary": f"{plan.vary}={','.join(map(str, plan.values))}" if plan.vary else "nothing",
        "text": f"{text.corpus} ({text.sha256[:8]})",
        **settings.by_option(record.settings),
    }
    for candidate in record.candidates:
        if candidate.ready:
            versions = {**candidate.ready.versions, "Python": candidate.ready.machine.python}
            conditions |= {f"{key} of {candidate.place}": each for key, each in versions.items()}
    return conditions


def _work(record: Comparison, row: Speed) -> tuple[Any, ...]:
    # What identifies a speed in another record: the candidate, and all that a minibatch depends on,
    # whether it is varied there or not.
    plan, ready = record.plan, row.candidate.ready
    work = asdict(record.settings)
    work |= {"threads": plan.threads, "workers": 1, "tf32": plan.tf32}
    work["device"] = ready.device if ready else plan.device
    work["vocabulary"] = record.text.vocabulary
    if plan.vary:
        work[plan.vary] = row.value
    return row.candidate.name, *(work[key] for key in sorted(work.keys() - set(FREE)))
