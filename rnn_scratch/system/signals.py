"""Signals that stop a command: Ctrl-C, and those that batch systems and closed terminals send.

Each stops a command as Ctrl-C does. Signals that the process ignores, as under ``nohup``, stay
ignored.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
# Seconds in which a signal is taken for a repetition of the one before: some programs send one to
# the process and to its group, and an impatient person presses Ctrl-C several times.
REPETITION = 1.0

received: list[int] = []  # the signals that have raised Stopped


class Stopped(KeyboardInterrupt):
    """A signal asks the command to stop."""

    def __init__(self, number: int) -> None:
        """Remember the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class Request:
    """Whether a signal has asked for a stop, or the training has no use for more epochs."""

    number: int | None = None
    enough: bool = False

    def check(self) -> None:
        """Raise Stopped if a signal has asked for a stop."""
        if self.number is not None:
            raise Stopped(self.number)


def install() -> None:
    """Let signals raise Stopped anywhere; a second one, after a while, ends the process at once.

    So does one during an import: compiled modules print the exception and raise another instead.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if received or _is_importing(frame):
            os._exit(128 + number)  # without the tracebacks of a process that is shutting down
        received.append(number)
        raise Stopped(number)

    _handle(stop)


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """Let signals take effect only where the request is checked; a second one does at once.

    An exception that is raised anywhere could be lost: Python ignores exceptions in destructors, of
    which MXNet has many. So a signal that came earlier takes effect as well.
    """
    request = Request()
    request.number = received[0] if received else None

    def stop(number: int, frame: FrameType | None) -> None:
        if request.number is not None and _is_importing(frame):
            os._exit(128 + number)
        request.check()
        request.number = number

    before = _handle(stop)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that a signal has stopped, as shells expect it."""
    if isinstance(error, Stopped):
        return 128 + error.number
    return 128 + (received[0] if received else signal.SIGINT)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    # Install a handler; the ones before it, by signal. Only the main thread receives signals.
    if threading.current_thread() is not threading.main_thread():
        return {}
    last = -REPETITION

    def unless_repeated(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last >= REPETITION:
            last = time.monotonic()
            handler(number, frame)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: old for number, old in before.items() if old != signal.SIG_IGN}
    for number in before:
        signal.signal(number, unless_repeated)
    return before
