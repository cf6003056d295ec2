"""Call a function in a group of child processes on this machine, one for each worker."""

import contextlib
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ..contract import WorkerGroup
from ..errors import NotOffered, RNNScratchError
from ..system import processes
from ..system.processes import Answer
from . import mpi


def addresses(workers: int) -> tuple[str, ...]:
    """Return a free address on the loopback interface for each worker."""
    mpi.forget_launcher()
    return tuple(mpi.free_address(mpi.LOOPBACK) for _ in range(workers))


def is_aborted(error: RNNScratchError) -> bool:
    """Return whether a library aborted this worker because another worker has ended."""
    return isinstance(error, processes.Crashed) and error.signum == signal.SIGABRT


def ask(
    function: Callable[..., Iterator[Answer]],
    workers: int,
    *arguments: Any,
    timeout: float,
    python: str = sys.executable,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Answer]:
    """Call a function in a child for each worker, and yield worker 0's answers, except None.

    The function's first parameter is a `WorkerGroup`, or None for a single worker; `processes.ask`
    describes the other parameters. If a worker fails, all end, and the error names it.
    """
    hosts = addresses(workers)
    groups = [WorkerGroup(rank, hosts) for rank in range(workers)] if workers > 1 else [None]
    calls = {rank: partial(function, group, *arguments) for rank, group in enumerate(groups)}
    pythons = dict.fromkeys(calls, python)
    children = processes.ask(calls, timeout=timeout, pythons=pythons, environment=environment)
    aborted: RNNScratchError | None = None
    with contextlib.closing(children):
        for rank, answer in children:
            if not isinstance(answer, processes.Exited):
                if rank == 0 and answer is not None:
                    yield answer
            elif (error := answer.error) and (workers == 1 or isinstance(error, NotOffered)):
                raise error
            elif error:
                named = RNNScratchError(f"worker {rank}: {error.problem}", error.hint)
                if not is_aborted(error):
                    raise named
                aborted = aborted or named  # the cause, another worker's end, may arrive later
    if aborted:
        raise aborted
