"""Calls a function in several processes at once, which work together."""

import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ..contract import RNNScratchError
from ..system import processes
from . import network

LOOPBACK = "127.0.0.1"

Answer = TypeVar("Answer")


def addresses(number: int) -> list[str]:
    """Free addresses on this machine for a team of workers; none for a single one."""
    return [network.free_address(LOOPBACK) for _ in range(number)] if number > 1 else []


def calls(
    number: int, function: Callable[..., Iterator[Answer]], *task: Any
) -> "list[partial[Iterator[Answer]]]":
    """The same task for a team of workers, each with its rank and the addresses of all first."""
    known = addresses(number)
    return [partial(function, rank, known, *task) for rank in range(number)]


class Ended:
    """Instead of an answer: a process has sent all and has ended."""


def listeners(
    calls: "Mapping[int, partial[Iterator[Answer]]]",
    put: Callable[[tuple[int, Answer | Ended | RNNScratchError]], object],
    end: threading.Event,
    **settings: Any,
) -> list[threading.Thread]:
    """A thread for each call, by rank, which makes it in a process of its own when it is started.

    It passes on the answers, with the rank, as `processes.ask` yields them with these settings, and
    then `Ended` or the error.
    """

    def listen(rank: int, call: "partial[Iterator[Answer]]") -> None:
        try:
            for answer in processes.ask(call, end=end, **settings):
                put((rank, answer))
            put((rank, Ended()))
        except RNNScratchError as error:
            put((rank, error))

    return [threading.Thread(target=listen, args=each) for each in calls.items()]


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
    end = threading.Event()
    settings: dict[str, Any] = {"timeout": timeout, "environment": environment, "python": python}
    threads = listeners(dict(enumerate(calls)), messages.put, end, **settings)
    try:
        for thread in threads:
            thread.start()
        running = len(calls)
        while running:
            rank, message = messages.get()
            if isinstance(message, RNNScratchError):
                name = f"worker {rank}: " if len(calls) > 1 else ""
                raise RNNScratchError(f"{name}{message}") from message
            if isinstance(message, Ended):
                running -= 1
            elif rank == 0:
                yield message
    finally:
        end.set()
        for thread in threads:
            if thread.is_alive():  # a Ctrl-C may come before it is started
                thread.join()
