"""Signals that stop a command: Ctrl-C, and signals from batch systems and closing terminals.

Signals that the process already ignores, as under ``nohup``, stay ignored.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP")]


class Stopped(KeyboardInterrupt):
    """Raised when a signal stops the command."""

    def __init__(self, number: int) -> None:
        """Store the signal number."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopRequest:
    """A request to stop: a signal number, or `complete` if no more epochs are needed."""

    number: int | None = None
    complete: bool = False


def install() -> None:
    """Make the first signal raise Stopped immediately, and a second signal kill the process."""

    def stop(signum: int, frame: FrameType | None) -> None:
        _handle(signal.SIG_DFL)
        raise Stopped(signum)

    _handle(stop)


@contextlib.contextmanager
def deferred() -> Iterator[StopRequest]:
    """Store the first signal in a request that the code polls; a second signal raises Stopped.

    An exception raised at an arbitrary point could be lost: Python ignores exceptions in
    destructors, and MXNet has many destructors.
    """
    request = StopRequest()

    def stop(signum: int, frame: FrameType | None) -> None:
        if request.number is not None:
            raise Stopped(signum)
        request.number = signum

    previous_handlers = _handle(stop)
    try:
        yield request
    finally:
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)


def _handle(handler: Any) -> dict[int, Any]:
    """Install a handler (only the main thread can); return the previous handlers."""
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers if is_main}
