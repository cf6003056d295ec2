"""Calls a function in several processes at once, which work together."""

import queue
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from ..contract import RNNScratchError
from ..system import processes
from . import rendezvous

LOOPBACK = "127.0.0.1"
ENDED = object()  # what no process can send


def addresses(number: int) -> list[str]:
    """Free addresses on this machine for a team of workers; none for a single one."""
    return [rendezvous.free_address(LOOPBACK) for _ in range(number)] if number > 1 else []


def tasks(number: int, *task: Any) -> list[tuple[Any, ...]]:
    """The same task for a team of workers, each with its rank and the addresses of all first."""
    known = addresses(number)
    return [(rank, known, *task) for rank in range(number)]


def ask_all(
    function: str,
    tasks: Sequence[Sequence[Any]],
    timeout: float,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Generator[Any]:
    """Call ``module:function`` with each task in a process of its own, and yield the first's.

    The answers of the others are not kept. If one fails, all end, and RNNScratchError says which.
    Close the generator where it is not read to its end, and all processes have ended.
    """
    messages: queue.Queue[tuple[int, Any]] = queue.Queue()  # rank, and answer, error or ENDED
    end = threading.Event()

    def listen(rank: int) -> None:
        settings: dict[str, Any] = {"timeout": timeout, "environment": environment}
        try:
            for answer in processes.ask(function, *tasks[rank], **settings, python=python, end=end):
                if rank == 0:
                    messages.put((rank, answer))
            messages.put((rank, ENDED))
        except RNNScratchError as error:
            messages.put((rank, error))

    threads = [threading.Thread(target=listen, args=(rank,)) for rank in range(len(tasks))]
    try:
        for thread in threads:
            thread.start()
        running = len(tasks)
        while running:
            rank, message = messages.get()
            if isinstance(message, RNNScratchError):
                name = f"worker {rank}: " if len(tasks) > 1 else ""
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
