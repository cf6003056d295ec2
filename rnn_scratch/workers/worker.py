"""A worker: the process that trains on its rows of every minibatch, and the events that it sends.

The first worker has the run's session, and sends its events.
"""

import contextlib
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from signal import Signals

from .. import registry
from ..contract import Team
from ..errors import RNNScratchError
from ..runs import sessions
from ..runs.sessions import Work
from ..runs.training import Diverged
from ..system import signals
from ..system.processes import send
from .messages import BEAT, Alive, Event, Problem


def run(rank: int, addresses: list[str], work: Work) -> Iterator[Event]:
    """Train as the worker of this rank; an error is an event as well, the last one."""
    count, team = Counter[str](), Team(rank, tuple(addresses))
    try:
        signals.install()
        threading.Thread(target=_beat, args=(count,), daemon=True).start()
        for event in (sessions.follow if rank else sessions.train)(work, team):
            count["events"] += 1
            if rank == 0:
                yield event
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


def _beat(count: Counter[str]) -> None:
    process = os.getpid()
    with contextlib.suppress(OSError, ValueError):  # when the parent is gone, or all is said
        while True:
            send(Alive(process=process, minibatches=count["events"]))
            time.sleep(BEAT)
