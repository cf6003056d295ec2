"""What is to be compared, and the reports of a comparison's progress."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ..contract import VARIANTS, RNNScratchError
from ..registry import MOST_THREADS
from ..settings import Settings
from ..workers.groups import MOST_WORKERS
from ..workers.launch import require_shares

VARIED = ("num_hiddens", "batch_size", "num_steps", "threads", "workers")
MOST_CANDIDATES, MOST_VALUES = 200, 100

Record = dict[str, Any]
Candidate = dict[str, Any]  # the section of a record on one variant of one backend's model


class Spec(NamedTuple):
    """A candidate: a variant of a backend's model, in an environment of its own if it has a name.

    Two versions of one framework are the same backend in two environments.
    """

    backend: str
    model: str = VARIANTS[0]
    environment: str = ""

    @property
    def place(self) -> str:
        """The backend and its environment, as `--python` names their interpreter."""
        return self.backend + (f"@{self.environment}" if self.environment else "")


class Plan(NamedTuple):
    """What is compared, and how."""

    specs: Sequence[Spec]
    device: str = "cpu"
    threads: int = 1
    tf32: bool = False
    repeats: int = 5
    seeds: int = 1
    vary: tuple[str, Sequence[int]] | None = None
    # Interpreters other than this one, by `Spec.place` or by the name of an environment.
    pythons: Mapping[str, str] = MappingProxyType({})
    target: float | None = None  # held-out perplexity at which training ends
    timeout: float = 900.0  # seconds without a message after which a worker is stopped


def record_of(plan: Plan) -> Record:
    """The plan as a comparison's record has it, without the paths of interpreters."""
    rest = {key: value for key, value in plan._asdict().items() if key != "specs"}
    return {
        "backends": list(dict.fromkeys(spec.backend for spec in plan.specs)),
        "models": list(dict.fromkeys(spec.model for spec in plan.specs)),
        **rest,
        "pythons": sorted(plan.pythons),
        "vary": {"name": plan.vary[0], "values": list(plan.vary[1])} if plan.vary else None,
    }


def python_of(plan: Plan, spec: Spec) -> str | None:
    """The interpreter that the plan names for a candidate, if it names one."""
    return plan.pythons.get(spec.place) or plan.pythons.get(spec.environment)


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


def spec_of(candidate: Candidate) -> Spec:
    """The candidate's specification; records have an environment only where it has a name."""
    return Spec(candidate["backend"], candidate["model"], candidate.get("at", ""))


def name(candidate: Candidate) -> str:
    """The backend's name, its environment's, and the variant's unless it is the default one."""
    spec = spec_of(candidate)
    return spec.place + ("" if spec.model == VARIANTS[0] else f" {spec.model}")


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
