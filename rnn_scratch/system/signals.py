"""Signals that stop a command: Ctrl-C, and signals of batch systems and closing terminals.

Signals that the process ignores, as under ``nohup``, stay ignored.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
DEBOUNCE_SECONDS = 1.0  # `timeout` signals the process, and then its group


class Stopped(KeyboardInterrupt):
    """The exception that a signal raises to stop the command."""

    def __init__(self, number: int) -> None:
        """Store the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class Request:
    """A request to stop: the number of a signal, or `complete` if training needs no more epochs."""

    number: int | None = None
    complete: bool = False


def install() -> None:
    """Make the first signal raise Stopped at any point; a second signal ends the process at once.

    A signal during an import also ends the process, because compiled modules would print and
    replace the exception.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        _handle(signal.SIG_DFL)
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os._exit(128 + signum)  # sys.exit would print tracebacks of threads
            frame = frame.f_back
        raise Stopped(signum)

    _handle(stop)


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """Store the first signal in a request for the code to check; a second signal raises Stopped.

    An exception that a signal raises at any point could be lost: Python ignores exceptions in
    destructors, and MXNet has many destructors.
    """
    request, ignored_until = Request(), 0.0

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal ignored_until
        if request.number is None:
            request.number, ignored_until = signum, time.monotonic() + DEBOUNCE_SECONDS
        elif 0 < ignored_until < time.monotonic():  # 0: another worker received the first signal
            raise Stopped(signum)

    previous = _handle(stop)
    try:
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def ignore() -> None:
    """Ignore further signals, because the process is about to exit."""
    _handle(signal.SIG_IGN)


def exit_code(error: BaseException) -> int:
    """Return the exit code that shells expect from a command that was stopped by a signal."""
    return 128 + getattr(error, "number", signal.SIGINT)


def _handle(handler: Any) -> dict[int, Any]:
    # Install a handler, if this is the main thread, as Python requires; return previous handlers.
    is_main = threading.current_thread() is threading.main_thread()
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in handled if is_main}
