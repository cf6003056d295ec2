"""What is to be compared, and the reports of a comparison's progress."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ..contract import VARIANTS, RNNScratchError
from ..registry import MOST_THREADS
from ..runs.supervision import MOST_WORKERS, require_shares
from ..settings import Settings

VARIED = ("num_hiddens", "batch_size", "num_steps", "threads", "workers")

Record = dict[str, Any]
Candidate = dict[str, Any]  # the section of a record on one variant of one backend's model


class Plan(NamedTuple):
    """What is compared, and how."""

    backends: Sequence[str]
    models: Sequence[str] = VARIANTS[:1]
    device: str = "cpu"
    threads: int = 1
    tf32: bool = False
    repeats: int = 5
    seeds: int = 1
    vary: tuple[str, Sequence[int]] | None = None
    pythons: Mapping[str, str] = MappingProxyType({})  # a backend's interpreter, if not this one
    timeout: float = 900.0  # seconds without a message after which a worker is stopped


class Progress:
    """Receives the progress of a comparison; this one ignores it."""

    def start(self, record: Record) -> None:
        """The comparison begins."""

    def activity(self, candidate: Candidate, activity: str) -> None:
        """A candidate's worker is doing this; reported again as it advances."""

    def end(self, candidate: Candidate) -> None:
        """The candidate's worker has ended, and the record is written."""

    def stop(self) -> None:
        """The comparison has ended, whatever the reason."""


def name(candidate: Candidate) -> str:
    """The backend's name, and the variant's unless it is the default one."""
    is_default = candidate["model"] == VARIANTS[0]
    return candidate["backend"] + ("" if is_default else f" {candidate['model']}")


def values(plan: Plan) -> Sequence[int | None]:
    """The values of what is varied; a single None where nothing is."""
    return plan.vary[1] if plan.vary else [None]


class Sized(NamedTuple):
    """What is timed: the settings, and with how many threads of how many workers."""

    settings: Settings
    threads: int
    workers: int = 1


def at_value(plan: Plan, settings: Settings, value: int | None) -> Sized:
    """What is timed at this value of what is varied."""
    if plan.vary is None:
        return Sized(settings, plan.threads)
    varied = plan.vary[0]
    if varied not in VARIED:
        raise RNNScratchError(
            f"--vary {varied}=... is not possible.\nWhat can be varied: {', '.join(VARIED)}."
        )
    if varied == "threads":
        if value is None or not 1 <= value <= MOST_THREADS:
            raise RNNScratchError(
                f"--vary threads={value}: the number of threads is 1 to {MOST_THREADS:,}."
            )
        return Sized(settings, value)
    if varied == "workers":
        if value is None or not 1 <= value <= MOST_WORKERS:
            raise RNNScratchError(
                f"--vary workers={value}: the number of workers is 1 to {MOST_WORKERS}."
            )
        require_shares(settings.batch_size, value)
        return Sized(settings, plan.threads, value)
    changes: dict[str, Any] = {varied: value}
    return Sized(dataclasses.replace(settings, **changes), plan.threads)
