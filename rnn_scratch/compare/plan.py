"""What a comparison is asked to do, and how it tells what it does."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ..contract import RNNScratchError
from ..settings import Settings

VARIED = ("num_hiddens", "batch_size", "num_steps", "threads")

Record = dict[str, Any]
Candidate = dict[str, Any]  # the part of a record that is of one backend with one of its models


class Plan(NamedTuple):
    """What is compared, and how."""

    backends: Sequence[str]
    models: Sequence[str] = ("scratch",)
    device: str = "cpu"
    threads: int = 1
    tf32: bool = False
    repeats: int = 5
    seeds: int = 1
    vary: tuple[str, Sequence[int]] | None = None
    pythons: Mapping[str, str] = MappingProxyType({})  # for a backend, in place of this one
    timeout: float = 900.0  # seconds for which a worker may say nothing


class Watch:
    """What is told while a comparison goes on; this one tells nothing."""

    def begin(self, record: Record) -> None:
        """The comparison begins."""

    def busy(self, candidate: Candidate, doing: str) -> None:
        """A candidate is at work, on what `doing` says; told again as it goes on."""

    def done(self, candidate: Candidate) -> None:
        """The candidate's worker has ended, and the record is written."""


def name(candidate: Candidate) -> str:
    """A candidate in words, the shorter for a model from scratch."""
    concise = "" if candidate["model"] == "scratch" else f" {candidate['model']}"
    return candidate["backend"] + concise


def values(plan: Plan) -> Sequence[int | None]:
    """Those of what is varied; a single None where nothing is."""
    return plan.vary[1] if plan.vary else [None]


def varied(plan: Plan, settings: Settings, value: int | None) -> tuple[Settings, int]:
    """The settings, and the number of threads, with this value of what is varied."""
    if plan.vary is None:
        return settings, plan.threads
    what = plan.vary[0]
    if what not in VARIED:
        raise RNNScratchError(f"--vary {what}=... was asked for; what can be varied: "
                              f"{', '.join(VARIED)}.")  # fmt: skip
    if what == "threads":
        if value is None or value < 1:
            raise RNNScratchError(f"--vary threads={value} was asked for; it takes 1 at least.")
        return settings, value
    changed: dict[str, Any] = {what: value}
    return dataclasses.replace(settings, **changed), plan.threads
