"""Call a function in the processes of a team on this machine, one for each worker."""

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ..contract import Team
from ..errors import NotOffered, RNNScratchError
from ..system import processes
from ..system.processes import Answer
from . import network
from .launch import forget_mpi

LOOPBACK = "127.0.0.1"


def addresses(number: int) -> list[str]:
    """Return free addresses on this machine for a team of workers; none for a single one.

    Workers inherit the environment: the variables of a launcher of MPI are deleted from it.
    """
    if number == 1:
        return []
    forget_mpi()
    return [network.free_address(LOOPBACK) for _ in range(number)]


def ask(
    function: Callable[..., Iterator[Answer]],
    workers: int,
    *arguments: Any,
    timeout: float,
    python: str = sys.executable,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Answer]:
    """Call a function in a child for each worker, and yield the answers of the first.

    None is no answer, and only shows that the child goes on. The function's first parameter is a
    `Team`, or None for a single worker. The rest is as in `processes.ask`. If a worker fails, all
    end, and the error names it.
    """
    known = tuple(addresses(workers))
    teams = [Team(rank, known) for rank in range(workers)] if known else [None]
    calls = {rank: partial(function, team, *arguments) for rank, team in enumerate(teams)}
    pythons = dict.fromkeys(calls, python)
    children = processes.ask(calls, timeout=timeout, pythons=pythons, environment=environment)
    lost: RNNScratchError | None = None  # of an engine that has aborted its worker
    with contextlib.closing(children):
        for rank, answer in children:
            if not isinstance(answer, processes.Exited):
                if rank == 0 and answer is not None:
                    yield answer
            elif (error := answer.error) and (workers == 1 or isinstance(error, NotOffered)):
                raise error
            elif error:
                named = RNNScratchError(f"worker {rank}: {error.problem}", error.hint)
                if "SIGABRT" not in error.problem:
                    raise named
                lost = lost or named  # it may follow from another worker's end, which comes later
    if lost:
        raise lost
