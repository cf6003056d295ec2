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

MOST_WORKERS = 256  # of a team
LOOPBACK = "127.0.0.1"
ENDED = object()  # what no process can send

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
    messages: queue.Queue[tuple[int, Any]] = queue.Queue()  # rank, and answer, error or ENDED
    end = threading.Event()

    def listen(rank: int) -> None:
        settings: dict[str, Any] = {"timeout": timeout, "environment": environment}
        try:
            for answer in processes.ask(calls[rank], **settings, python=python, end=end):
                if rank == 0:
                    messages.put((rank, answer))
            messages.put((rank, ENDED))
        except RNNScratchError as error:
            messages.put((rank, error))

    threads = [threading.Thread(target=listen, args=(rank,)) for rank in range(len(calls))]
    try:
        for thread in threads:
            thread.start()
        running = len(calls)
        while running:
            rank, message = messages.get()
            if isinstance(message, RNNScratchError):
                name = f"worker {rank}: " if len(calls) > 1 else ""
                raise RNNScratchError(f"{name}{message}") from message
            if message is ENDED:
                running -= 1
            else:
                yield message
    finally:
        end.set()
        for thread in threads:
            if thread.is_alive():  # a Ctrl-C may come before it is started
                thread.join()
