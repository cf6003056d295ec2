"""Calls a function in several processes at once, which work together."""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ..errors import RNNScratchError
from ..system import processes
from ..system.processes import Answer
from . import network

LOOPBACK = "127.0.0.1"


def addresses(number: int) -> list[str]:
    """Free addresses on this machine for a team of workers; none for a single one."""
    return [network.free_address(LOOPBACK) for _ in range(number)] if number > 1 else []


def calls(
    number: int, function: Callable[..., Iterator[Answer]], *task: Any
) -> "list[partial[Iterator[Answer]]]":
    """The same task for a team of workers, each with its rank and the addresses of all first."""
    known = addresses(number)
    return [partial(function, rank, known, *task) for rank in range(number)]


@contextlib.contextmanager
def started(
    calls: "Mapping[int, partial[Iterator[Answer]]]",
    put: Callable[[tuple[int, Answer | Exception | None]], object],
    end: threading.Event,
    **settings: Any,
) -> Iterator[None]:
    """Make each of these calls, by rank, in a process of its own; at the end all have ended.

    `put` gets the answers, with the rank, as `processes.ask` yields them with these settings, but
    for those that are None; and then None or the error. Processes that still run end when `end` is
    set.
    """

    def listen(rank: int, call: "partial[Iterator[Answer]]") -> None:
        try:
            for answer in processes.ask(call, end=end, **settings):
                if answer is not None:  # which only shows that the process goes on
                    put((rank, answer))
            put((rank, None))
        except Exception as error:  # whatever it is: somebody waits for this
            put((rank, error))

    with ThreadPoolExecutor(len(calls)) as pool, processes.stopped_together():
        try:
            for rank, call in calls.items():
                pool.submit(listen, rank, call)
            yield
        finally:
            end.set()


def ask_all(
    calls: "Sequence[partial[Iterator[Answer]]]",
    timeout: float,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Generator[Answer]:
    """Make each call in a process of its own, as `processes.ask` does, and yield the first's.

    The answers of the others are not kept. If one fails, all end, and RNNScratchError says which.
    Close the generator where it is not read to its end, and all processes have ended.
    """
    messages: queue.Queue[tuple[int, Any]] = queue.Queue()
    settings: dict[str, Any] = {"timeout": timeout, "environment": environment, "python": python}
    with started(dict(enumerate(calls)), messages.put, threading.Event(), **settings):
        running = len(calls)
        while running:
            rank, message = messages.get()
            if isinstance(message, RNNScratchError):
                name = f"worker {rank}: " if len(calls) > 1 else ""
                raise RNNScratchError(f"{name}{message}") from message
            if isinstance(message, Exception):
                raise message
            if message is None:
                running -= 1
            elif rank == 0:
                yield message
