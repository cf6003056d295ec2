"""Run a task for one candidate, a variant of a backend's model, in child processes."""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

from ..errors import NotOffered, RNNScratchError
from ..runs.runtime import Runtime
from ..system.processes import Answer, one_line
from ..system.records import Record
from ..workers import groups


class Failure(Record):
    """Why a task has no more answers: an error, or the backend does not offer the model."""

    reason: str  # one line
    kind: Literal["failed", "not offered"] = "failed"


def run(
    task: Callable[..., Iterator[Answer]],
    runtime: Runtime,
    *arguments: Any,
    timeout: float,
    python: str = sys.executable,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Answer | Failure]:
    """Run a task in a child for each worker of the candidate, and yield the first one's answers.

    The task is a generator function of a module: its first parameters are `team: Team | None` and
    `runtime: Runtime`, its annotations say what it receives and yields, and whatever it raises, or
    whatever else ends a child, becomes a `Failure`, the last answer. A task shows by None that it
    goes on. Use `contextlib.closing` where not all answers are read: it kills the children.
    """
    settings: dict[str, Any] = {"timeout": timeout, "python": python, "environment": environment}
    try:
        yield from groups.ask(task, runtime.workers, runtime, *arguments, **settings)
    except NotOffered as error:
        yield Failure(reason=one_line(error.problem), kind="not offered")
    except RNNScratchError as error:
        yield Failure(reason=one_line(str(error)))
