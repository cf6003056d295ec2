"""Call a function in a group of child processes on this machine, one per worker."""

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from ..contract import WorkerGroup
from ..errors import NotSupportedError, RNNScratchError
from ..system import processes
from . import mpi

Answer = TypeVar("Answer")
# Errors in a worker that may be consequences of another worker's failure.
CONSEQUENCES = mpi.PeerLost, processes.AbortError


def addresses(workers: int) -> tuple[str, ...]:
    """Return a free address on the loopback interface for each worker; forget the MPI launcher."""
    mpi.forget_launcher()
    return tuple(mpi.free_address(mpi.LOOPBACK) for _ in range(workers))


def ask(
    function: Callable[..., Iterator[Answer]],
    workers: int,
    *arguments: Any,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> Generator[Answer]:
    """Call a function in one child process per worker; yield worker 0's answers, except None.

    The function's first parameter is a `WorkerGroup`, or None for a single worker.
    `processes.start` describes the other parameters. If a worker fails, all workers end, and the
    error names the failed worker.
    """
    endpoints = addresses(workers)
    groups = [WorkerGroup(rank, endpoints) for rank in range(workers)] if workers > 1 else [None]
    calls = {rank: partial(function, group, *arguments) for rank, group in enumerate(groups)}
    consequence: RNNScratchError | None = None
    with processes.start(calls, timeout, environment) as (_, answers):
        for rank, answer in answers:
            if not isinstance(answer, RNNScratchError):
                if rank == 0 and answer is not None:
                    yield answer
                continue
            if workers == 1 or isinstance(answer, NotSupportedError):
                raise answer
            named_error = RNNScratchError(f"worker {rank}: {answer.problem}", answer.hint)
            if not isinstance(answer, CONSEQUENCES):
                raise named_error
            consequence = consequence or named_error  # the failure that caused it may arrive later
    if consequence:
        raise consequence
