"""A worker: the process that trains on its rows of every minibatch, and the events that it sends.

The first worker has the run's session; its events are those of a `Report`. Each event is
an object with its name under ``event``.
"""

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..contract import RNNScratchError, Team
from ..runs import sessions
from ..runs.folder import Epoch
from ..runs.setup import Place
from ..runs.training import Diverged, Progress, Report
from ..settings import Settings
from ..system import processes, signals
from ..text import corpus

BEAT = 1.0  # seconds between signs of life


class Counted(Report):
    """Counts the minibatches, which is all that is reported of a worker after the first."""

    count = 0

    def minibatch(self, X: np.ndarray, Y: np.ndarray) -> None:
        """Count it."""
        self.count += 1


class Events(Counted):
    """Sends the progress of the training."""

    def say(self, line: str) -> None:
        """Send the message."""
        processes.send({"event": "say", "line": line})

    def start(self, folder: Path, settings: Settings, session: dict[str, Any], first: int) -> None:
        """Send where the training begins."""
        where = {"folder": str(folder), "session": session, "first": first}
        processes.send({"event": "start", **where})

    def progress(self, progress: Progress) -> None:
        """Send how far the epoch has come."""
        processes.send({"event": "progress", **progress._asdict()})

    def epoch(self, epoch: Epoch) -> None:
        """Send the epoch."""
        processes.send({"event": "epoch", **epoch._asdict()})


def run(
    rank: int,
    addresses: list[str],
    settings: Settings,
    text: corpus.Text,
    place: Place,
    folder: str | None,
    resumes: bool,
) -> Iterator[dict[str, Any]]:
    """Train as the worker of this rank, and send events: all arguments are JSON.

    Errors are events as well; the last event is "finished", "stopped" or "failed".
    """
    report = Counted() if rank else Events()
    team = Team(rank, tuple(addresses))
    its = settings, text, place
    try:
        signals.install()
        threading.Thread(target=_beat, args=(report,), daemon=True).start()
        if rank:
            sessions.follow(*its, report, team)
        elif resumes:
            sessions.resume(Path(folder or ""), settings.num_epochs, text, place, {}, report, team)
        else:
            sessions.train(*its, None if folder is None else Path(folder), report, team)
        registry.load(place.backend).workers.leave()
        processes.send({"event": "finished"})
    except signals.Stopped as error:
        processes.send({"event": "stopped", "number": error.number})
    except RNNScratchError as error:
        diverged = isinstance(error, Diverged)
        words = f"Worker {rank} has failed: {error}" if rank and not diverged else str(error)
        _fail(words, is_plain=True, diverged=diverged)
    except Exception:
        # Of the engine, because another worker is gone; or of code that somebody has changed, who
        # needs to see where.
        _fail(f"Worker {rank} has failed: {traceback.format_exc()}", is_exception=True)
    yield from ()


def _fail(reason: str, **kind: bool) -> None:
    processes.send({"event": "failed", "reason": reason, **kind})


def _beat(report: Counted) -> None:
    process = os.getpid()
    with contextlib.suppress(OSError, ValueError):  # when the parent is gone, or all is said
        while True:
            processes.send({"event": "alive", "process": process, "count": report.count})
            time.sleep(BEAT)
