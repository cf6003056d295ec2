"""Train with several workers, as their parent process or as a worker that a launcher started.

On one machine, the workers are child processes of a supervisor, which passes on the events of
worker 0. If a worker fails, the other workers have a grace period to report errors before they are
killed. Under `mpiexec` or `srun`, each launched process trains as a worker; if a worker fails, the
launcher ends the other workers. In both cases, the run keeps its last checkpoint.
"""

import atexit
import contextlib
import math
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from .. import registry
from ..contract import WorkerGroup
from ..errors import RNNScratchError
from ..runs import checkpoint, run_folder, sessions
from ..runs.run import Run
from ..runs.sessions import Work
from ..system import host, processes, signals
from ..training.events import Ended, Event, Started
from ..training.loop import DivergenceError
from . import groups, mpi

FAILURE_GRACE = 5.0  # seconds for the other workers to end after a worker has failed
SIGNAL_GRACE = 30.0  # seconds for all workers to end after a signal


class StoppedBySignal(RNNScratchError):  # noqa: N818 - a request, not an error of the worker
    """The error of a worker that a signal has stopped; the problem is the signal's name."""


def train(work: Work, rank: int | None) -> Generator[Event, None, Run | None]:
    """Train with several workers; return the run, or None if `rank` is greater than 0."""
    if rank is None:
        return (yield from _supervise(work))
    mpi.broadcast(work)
    group = mpi.rendezvous(required_equal(work))
    return (yield from _train(group, work, mpi.finalize))


def follow(overrides: Mapping[str, Any]) -> Generator[Event, None, Run | None]:
    """Train as a worker other than worker 0; such a worker does not need the run's folder."""
    work = mpi.broadcast(None)
    work = replace(work, runtime=work.runtime.override(**overrides))
    group = mpi.rendezvous(required_equal(work))
    return (yield from _train(group, work, mpi.finalize))


def required_equal(work: Work) -> dict[str, str]:
    """Return the settings and versions that must be equal in all workers, by name."""
    backend = work.runtime.backend
    return {
        # A worker with a different `step` would train a different model.
        "version of rnn-scratch": registry.source_version("rnn_scratch"),
        f"version of the {backend} backend": registry.source_version(registry.find(backend)),
        "backend": backend,
        "model": work.runtime.model,
        "SHA-256 of the text": work.text.sha256,
        **{name: str(value) for name, value in asdict(work.settings).items()},
    }


def _train(
    group: WorkerGroup, work: Work, finalize: Callable[[], None] = lambda: None
) -> Generator[Event, None, Run | None]:
    # Train as one worker of a group; return the run in worker 0, None in other workers. `finalize`
    # tells a launcher that the worker has not failed.
    run = None
    try:
        if group.rank == 0:
            run = yield from sessions.train(work, group)
        else:
            sessions.follow(work, group)
        registry.load(work.runtime.backend).workers.leave()
        finalize()
    except (
        KeyboardInterrupt,
        DivergenceError,
    ) as error:  # all workers end after the same minibatch
        # At exit, the communication library would wait for the other workers, or crash.
        code = error.exit_code if isinstance(error, DivergenceError) else signals.exit_code(error)
        atexit.register(mpi.leave, code)
        atexit.register(finalize)
        raise
    except Exception as error:
        # The traceback may show an error in the user's own code.
        peer_error = mpi.PeerLost(f"Worker {group.rank} failed: {traceback.format_exc()}")
        failure = error if isinstance(error, RNNScratchError) else peer_error
        atexit.register(mpi.leave, failure.exit_code)
        raise failure from None
    return run


def _in_child(group: WorkerGroup, work: Work) -> Iterator[Event]:
    signals.install()
    signal.signal(signal.SIGUSR2, lambda *_: mpi.peer_lost.set())  # MPICH uses SIGUSR1
    try:
        yield from _train(group, work)
    except signals.Stopped as error:
        raise StoppedBySignal(str(error)) from error


def _supervise(work: Work) -> Generator[Event, None, Run]:
    size = work.runtime.workers
    threads = work.runtime.threads or max(1, host.cores() // size)  # workers share the cores
    work = replace(work, runtime=replace(work.runtime, threads=threads))
    addresses = groups.addresses(size)
    calls = {rank: partial(_in_child, WorkerGroup(rank, addresses), work) for rank in range(size)}
    failures: list[RNNScratchError] = []
    start: Started | None = None
    has_ended = False
    with signals.deferred() as request, processes.start(calls) as (children, answers):
        try:
            for event in _events(children, answers, failures, request):
                start = event if isinstance(event, Started) else start
                has_ended = isinstance(event, Ended)
                yield event
        except BaseException:  # raised by the report, or by a second signal
            for child in children.values():
                child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                children[0].wait(SIGNAL_GRACE)
            raise
    if failures:
        error = _first_cause(failures, request.number)
        if start is not None and not has_ended:  # worker 0 was killed before it sent `Ended`
            outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            yield Ended(session=replace(start.session, outcome=outcome))
        raise error
    assert start is not None
    folder = Path(start.folder)
    saved = checkpoint.load(folder)
    history, record = run_folder.history(folder), run_folder.read(folder)
    return Run(folder, history, record, saved.vocab, saved.arrays)


def _events(
    children: Mapping[int, subprocess.Popen[bytes]],
    answers: Iterator[tuple[int, Any]],
    failures: list[RNNScratchError],
    request: signals.Request,
) -> Iterator[Event]:
    # Yield the events of worker 0 until all workers have ended or their grace period is over.
    # Append failures in the order in which they arrive.
    deadline, is_stopping = math.inf, False
    for rank, answer in answers:
        if isinstance(answer, RNNScratchError):
            failures.append(_failure(rank, answer))
        elif answer is not None:
            yield answer
        if request.number is not None and not is_stopping:
            is_stopping, deadline = True, time.monotonic() + SIGNAL_GRACE
            for child in children.values():
                child.terminate()  # no effect on workers that Ctrl-C has already reached
        if failures and deadline == math.inf:
            if any(isinstance(failure, StoppedBySignal) for failure in failures):
                deadline = time.monotonic() + SIGNAL_GRACE  # all workers stop together
            else:
                deadline = time.monotonic() + FAILURE_GRACE
                for child in children.values():
                    child.send_signal(signal.SIGUSR2)  # sets `mpi.peer_lost`
        if time.monotonic() > deadline:  # `processes.start` kills the remaining workers
            failures.append(mpi.PeerLost("killed"))
            return


def _failure(rank: int, error: RNNScratchError) -> RNNScratchError:
    # Return the error for the user, or PeerLost if another worker's error may have caused it. All
    # workers diverge after the same minibatch, and worker 0's message is more detailed.
    problem = f"Worker {rank} failed: {error.problem}"
    if isinstance(error, processes.AbortError) or (rank and isinstance(error, DivergenceError)):
        return mpi.PeerLost(problem)
    if isinstance(error, (mpi.PeerLost, StoppedBySignal)):
        return error
    is_crash = isinstance(error, processes.CrashError)
    return RNNScratchError(problem, error.hint) if rank or is_crash else error


def _first_cause(failures: list[RNNScratchError], signum: int | None) -> BaseException:
    # Return the failure or the signal that has caused the other failures.
    stop_errors = [error for error in failures if isinstance(error, StoppedBySignal)]
    if signum or stop_errors:
        return signals.Stopped(signum or signal.Signals[stop_errors[0].problem])
    return min(failures, key=lambda error: isinstance(error, mpi.PeerLost))
