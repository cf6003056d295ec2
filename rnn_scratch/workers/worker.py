"""A worker: the process that trains on its rows of every minibatch, and the events that it sends.

The first worker has the run's session; its events are those of a `Report`.
"""

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from signal import Signals

from .. import registry
from ..contract import Batch, Team
from ..errors import RNNScratchError
from ..runs import sessions
from ..runs.run_folder import Epoch, Session
from ..runs.sessions import Work
from ..runs.training import Diverged, Progress, Report
from ..settings import Settings
from ..system import signals
from ..system.processes import send
from .messages import BEAT, Alive, Event, Problem, Start


class Events(Report):
    """Sends the progress of the training, and counts the minibatches."""

    count = 0

    def minibatch(self, batch: Batch) -> None:
        """Count it."""
        self.count += 1

    def say(self, line: str) -> None:
        """Send the message."""
        send(line)

    def start(self, folder: Path, settings: Settings, session: Session) -> None:
        """Send where the training begins."""
        send(Start(folder=os.fsencode(folder), session=session))

    def progress(self, progress: Progress) -> None:
        """Send how far the epoch has come."""
        send(progress)

    def epoch(self, epoch: Epoch) -> None:
        """Send the epoch."""
        send(epoch)


def run(rank: int, addresses: list[str], work: Work) -> Iterator[Event]:
    """Train as the worker of this rank; an error is an event as well, the last one."""
    report, team = Events(), Team(rank, tuple(addresses))
    try:
        signals.install()
        threading.Thread(target=_beat, args=(report,), daemon=True).start()
        (sessions.follow if rank else sessions.train)(work, report, team)
        registry.load(work.runtime.backend).workers.leave()
    except signals.Stopped as error:
        yield Signals(error.number)
    except RNNScratchError as error:
        diverged = isinstance(error, Diverged)
        words = f"Worker {rank} has failed: {error}" if rank and not diverged else str(error)
        yield Problem(reason=words, kind="diverged" if diverged else "error")
    except Exception:
        # Of the engine, because another worker is gone; or of code that somebody has changed, who
        # needs to see where.
        words = f"Worker {rank} has failed: {traceback.format_exc()}"
        yield Problem(reason=words, kind="exception")


def _beat(report: Events) -> None:
    process = os.getpid()
    with contextlib.suppress(OSError, ValueError):  # when the parent is gone, or all is said
        while True:
            send(Alive(process=process, minibatches=report.count))
            time.sleep(BEAT)
