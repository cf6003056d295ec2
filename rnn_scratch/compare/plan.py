"""What is to be compared: verified before anything runs, and the beginning of its record."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ..errors import RNNScratchError, shortened
from ..runs import inference, schedule
from ..settings import Settings, checked
from ..system import host
from ..text import books, dataset
from ..workers.launch import require_shares
from .record import COMPARISON_FORMAT, VARIED, Candidate, Comparison, Plan


def new_record(
    candidates: Sequence[Candidate],
    plan: Plan,
    settings: Settings,
    text: books.Text,
    pythons: Mapping[str, str],
    command: str,
) -> Comparison:
    """The record of a comparison that is to be made; RNNScratchError if that is impossible.

    `pythons` are paths of interpreters by the name of an environment, or by `Candidate.place`.
    """
    _require_pythons(candidates, pythons)
    if plan.target is not None and not (1 < plan.target < 1e300 and settings.holds_out):
        raise RNNScratchError(
            f"--target is {plan.target:g}; it must be a perplexity above 1 and below 1e300, "
            "of held-out text: --valid-tokens N holds out N characters, --valid-share a share."
        )
    replace(settings, seed=settings.seed + plan.seeds - 1)  # the last one, if valid
    for value in plan.points:
        at_point = sized(plan, settings, value)[0]
        schedule.require(len(dataset.prepare(text, at_point).train), at_point)
    prepared = dataset.prepare(text, settings)
    valid = prepared.valid
    return Comparison(
        format=COMPARISON_FORMAT,
        command=shortened(command),
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=host.describe(),
        load=host.load(),
        plan=plan,
        settings=settings,
        text=dataset.describe(text, prepared),
        unigram=inference.unigram(valid) if len(valid) else None,
        candidates=list(candidates),
    )


def _require_pythons(candidates: Sequence[Candidate], pythons: Mapping[str, str]) -> None:
    # Each that is named is one of a candidate, and each candidate's environment has one.
    places = list(dict.fromkeys(candidate.place for candidate in candidates))
    environments = {candidate.environment for candidate in candidates}
    if unused := sorted(set(pythons) - set(places) - environments):
        raise RNNScratchError(
            f"--python names {', '.join(unused)}, which is not compared.\n"
            f"The backends of this comparison are: {', '.join(places)}."
        )
    unknown = [each for each in candidates if each.environment and not python_of(each, pythons)]
    if unknown:
        first = min(candidate.place for candidate in unknown)
        raise RNNScratchError(
            f"The environment of {first} is unknown: which Python does it have?\n"
            f"Name it: --python {first}=PATH"
        )


def python_of(candidate: Candidate, pythons: Mapping[str, str]) -> str | None:
    """The interpreter that is named for a candidate, if one is."""
    return pythons.get(candidate.place) or pythons.get(candidate.environment)


def sized(plan: Plan, settings: Settings, value: int | None) -> tuple[Settings, int, int]:
    """What is timed at this value of what is varied: settings, and numbers of threads and workers.

    RNNScratchError if that is impossible.
    """
    if plan.vary is None or value is None:
        return settings, plan.threads, 1
    if plan.vary not in VARIED:
        raise RNNScratchError(
            f"--vary {plan.vary}=... is not possible.\nWhat can be varied: {', '.join(VARIED)}."
        )
    changes: dict[str, Any] = {plan.vary: checked(plan.vary, value)}
    threads, workers = changes.pop("threads", plan.threads), changes.pop("workers", 1)
    require_shares(settings.batch_size, workers)
    return replace(settings, **changes), threads, workers
