"""A worker of a training, which trains on its rows of every minibatch.

Where a launcher or the user starts workers one by one, each trains in the process of the command.
Otherwise each is a child of the `supervisor`.
"""

import atexit
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Generator, Iterator
from typing import Literal

from .. import registry
from ..contract import Team
from ..errors import RNNScratchError
from ..runs import sessions
from ..runs.events import Event
from ..runs.run import Run
from ..runs.sessions import Work
from ..runs.training import Diverged
from ..system import signals
from ..system.records import Record
from . import network


class Failure(Record, tag=True):
    """The last message of a child that has failed."""

    problem: str
    hint: str = ""
    # An error, or a divergence; a signal that has stopped this worker; or what may follow from the
    # end of another worker.
    kind: Literal["error", "diverged", "stopped", "follows"] = "error"
    number: int = 0  # of the signal


def train(team: Team, work: Work) -> Generator[Event, None, Run | None]:
    """Train as one of a team's workers; return the run, or None in all workers but the first."""
    run = None
    try:
        if team.rank == 0:
            run = yield from sessions.train(work, team)
        else:
            for _ in sessions.follow(work, team):
                pass  # the first worker reports the progress
        registry.load(work.runtime.backend).workers.leave()
    except RNNScratchError as error:
        atexit.register(_exit, error.exit_code)
        raise
    except KeyboardInterrupt as error:
        atexit.register(_exit, signals.exit_code(error))
        raise
    except Exception as error:
        atexit.register(_exit, network.Lost.exit_code)
        # Whoever has changed the code needs to see where.
        raise network.Lost(
            f"Worker {team.rank} has failed: {traceback.format_exc()}",
            "If another worker has ended before this one, see its error.",
        ) from error
    return run


def run(team: Team, work: Work) -> Iterator[Event | Failure]:
    """Train as one of a team's workers, in a child of the supervisor's."""
    signals.install()
    if hasattr(signal, "SIGUSR2"):  # not on Windows; the first such signal is MPICH's
        signal.signal(signal.SIGUSR2, lambda *_: network.lost.set())
    try:
        yield from train(team, work)
    except signals.Stopped as error:
        yield Failure(problem=str(error), kind="stopped", number=error.number)
    except network.Lost as error:
        yield Failure(problem=error.problem, kind="follows")
    except Diverged as error:
        # All diverge after the same minibatch, and worker 0 has more to say of it.
        kind: Literal["diverged", "follows"] = "follows" if team.rank else "diverged"
        yield Failure(problem=error.problem, hint=error.hint, kind=kind)
    except RNNScratchError as error:
        name = f"Worker {team.rank} has failed: " if team.rank else ""
        yield Failure(problem=f"{name}{error.problem}", hint=error.hint)


def _exit(code: int) -> None:
    # At the end of a process of which a worker has failed: its engine would wait for the others, or
    # crash.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
