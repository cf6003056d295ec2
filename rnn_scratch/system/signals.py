"""Signals that stop a command: Ctrl-C, and the signals of batch systems and closed terminals.

Signals that the process ignores, as under ``nohup``, stay ignored.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
SIGNALS = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
DEBOUNCE_SECONDS = 1.0  # `timeout` sends a signal to the process and again to its group
received: list[int] = []  # signals that `install` has turned into Stopped
Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A signal asks the command to stop."""

    def __init__(self, number: int) -> None:
        """Store the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class Request:
    """A request to stop: the number of a signal, or `enough` if training needs no more epochs."""

    number: int | None = None
    enough: bool = False

    def check(self) -> None:
        """Raise Stopped if a signal has asked for a stop."""
        if self.number is not None:
            raise Stopped(self.number)


def install() -> None:
    """Make the first signal raise Stopped anywhere; a second signal ends the process at once.

    A signal during an import also ends the process, because compiled modules would print and
    replace the exception.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        if received or frame is not None:
            os._exit(128 + signum)  # sys.exit would print tracebacks of threads
        received.append(signum)
        raise Stopped(signum)

    _handle(stop)


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """Delay the first signal until the code checks the request; a second signal acts at once.

    An exception that is raised anywhere could be lost: Python ignores exceptions in destructors,
    and MXNet has many destructors.
    """
    request, ignored_until = Request(), 0.0

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal ignored_until
        if request.number is None:
            request.number, ignored_until = signum, time.monotonic() + DEBOUNCE_SECONDS
        elif time.monotonic() > ignored_until:
            request.check()

    previous = _handle(stop)
    try:
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def exit_code(error: BaseException) -> int:
    """Return the exit code that shells expect of a command that a signal stopped."""
    return 128 + getattr(error, "number", received[0] if received else signal.SIGINT)


def _handle(handler: Handler) -> dict[int, Any]:
    # Install a handler in the main thread, the only one with signals; return the previous handlers.
    if threading.current_thread() is not threading.main_thread():
        return {}
    handled = [signum for signum in SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]
    return {signum: signal.signal(signum, handler) for signum in handled}
