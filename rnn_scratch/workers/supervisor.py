"""Train with several workers: as one of them, or as the parent of all on this machine.

Where a launcher or the user starts workers one by one, each trains in the process of the command.
Otherwise each is a child of one that computes nothing and passes on the events of worker 0. When a
worker ends too early, the parent ends the others: by their own errors, or after a while by a kill.
The run keeps its last checkpoint.
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

import msgspec
from msgspec.structs import replace

from .. import registry
from ..contract import Team
from ..errors import RNNScratchError
from ..runs import checkpoint, run_folder, sessions
from ..runs.events import Ended, Event, Started
from ..runs.run import Run
from ..runs.sessions import Work
from ..runs.training import Diverged
from ..settings import by_option
from ..system import host, processes, signals
from ..system.terminal import leave
from ..text import books, dataset
from . import groups, meeting, network
from .launch import Launch

GRACE = 5.0  # seconds for the other workers to end by themselves when one has failed
SIGNAL_GRACE = 30.0  # seconds for all workers to end when a signal asks for it


class Halted(RNNScratchError):  # noqa: N818 - no error of the worker
    """A signal, whose name is the problem, has stopped a worker."""


def train(
    work: Work, launch: Launch, say: Callable[[str], None]
) -> Generator[Event, None, Run | None]:
    """Train with several workers; return the run, or None where worker 0 is another process.

    `say` gets lines for the user before the training begins. Raises RNNScratchError with the worker
    that has failed first and the reason, and Stopped if a signal has stopped the workers.
    """
    if launch.rank is None:
        return (yield from _supervise(work))
    job = replace(work, text=work.text._replace(content=""), folder=None)
    met = meeting.meet(launch, terms(work), job=msgspec.json.encode(job), say=say)
    return (yield from _train(Team(launch.rank, tuple(met.addresses)), work))


def follow(
    launch: Launch, text: books.Text | None, chosen: dict[str, Any], say: Callable[[str], None]
) -> Generator[Event, None, Run | None]:
    """Train with worker 0, which resumes a run in a folder that only worker 0 needs."""
    known = {"--resume": "yes", **_versions(chosen["backend"])}
    known |= {f"--{name}": chosen[name] for name in ("backend", "model") if chosen[name]}
    met = meeting.meet(launch, known, say=say)
    work = msgspec.json.decode(met.job, type=Work)
    text = dataset.reload_and_verify(work.text, text, say)
    runtime = replace(work.runtime, threads=None, device="auto").but(**chosen)
    work = replace(work, text=text, runtime=runtime)
    return (yield from _train(Team(launch.rank or 0, tuple(met.addresses)), work))


def terms(work: Work) -> dict[str, str]:
    """Return what must be equal in all workers, by name."""
    values = {option: str(value) for option, value in by_option(work.settings).items()}
    return {
        **_versions(work.runtime.backend),
        "--resume": "yes" if work.resumes else "no",
        "--backend": work.runtime.backend,
        "--model": work.runtime.model,
        "SHA-256 of the text": work.text.sha256,
        **values,
    }


def _versions(backend: str | None) -> dict[str, str]:
    # The versions of the code: a worker whose `step` is another one would train another model.
    versions = {"version of rnn-scratch": host.source_version("rnn_scratch")}
    if backend is not None:
        module = registry.find(backend)
        versions[f"version of the {backend} backend"] = host.source_version(module)
    return versions


def _train(team: Team, work: Work) -> Generator[Event, None, Run | None]:
    # As one of a team's workers. Returns the run, or None in all workers but the first.
    run = None
    try:
        if team.rank == 0:
            run = yield from sessions.train(work, team)
        else:
            for _ in sessions.follow(work, team):
                pass  # the first worker reports the progress
        registry.load(work.runtime.backend).workers.leave()
    except KeyboardInterrupt as error:
        # At the exit, its engine would wait for the others, or crash.
        atexit.register(leave, signals.exit_code(error))
        raise
    except Exception as error:
        # With the traceback: the error may be one in the user's own code.
        lost = network.Lost(f"Worker {team.rank} has failed: {traceback.format_exc()}")
        failure = error if isinstance(error, RNNScratchError) else lost
        atexit.register(leave, failure.exit_code)
        raise failure from None
    return run


def _in_child(team: Team, work: Work) -> Iterator[Event]:
    signals.install()
    if hasattr(signal, "SIGUSR2"):  # not on Windows; the first such signal is MPICH's
        signal.signal(signal.SIGUSR2, lambda *_: network.lost.set())
    try:
        yield from _train(team, work)
    except signals.Stopped as error:
        raise Halted(str(error)) from error


def _supervise(work: Work) -> Generator[Event, None, Run]:
    workers = work.runtime.workers
    threads = work.runtime.threads or max(1, host.cores() // workers)  # they share the cores
    work = replace(work, runtime=replace(work.runtime, threads=threads))
    known = tuple(groups.addresses(workers))
    calls = {rank: partial(_in_child, Team(rank, known), work) for rank in range(workers)}
    failures: list[RNNScratchError] = []
    began: Started | None = None
    ended = False
    with signals.deferred() as request, processes.started(calls) as (children, answers):
        try:
            for event in _events(children, answers, failures, request):
                began = event if isinstance(event, Started) else began
                ended = isinstance(event, Ended)
                yield event
        except BaseException:  # of the report that receives the events
            for child in children.values():
                child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                children[0].wait(SIGNAL_GRACE)
            raise
    if failures:
        error = _first_cause(failures, request.number)
        if began is not None and not ended:  # worker 0 could not say so
            outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            yield Ended(session=replace(began.session, outcome=outcome))
        raise error
    assert began is not None
    folder = Path(began.folder)
    saved = checkpoint.load(folder)
    history, record = run_folder.history(folder), run_folder.read(folder)
    return Run(folder, history, record, saved.vocab, saved.arrays)


def _events(
    children: Mapping[int, processes.Child],
    answers: Iterator[tuple[int, Event | processes.Exited] | None],
    failures: list[RNNScratchError],
    request: signals.Request,
) -> Iterator[Event]:
    # The events of worker 0, until all workers have ended, or have had the time for it. Failures
    # are added in the order of their arrival.
    deadline, stopping = math.inf, False
    for rank, answer in (answered or (0, None) for answered in answers):
        if isinstance(answer, processes.Exited):
            failures += [_failure(rank, answer.error)] if answer.error else []
        elif answer is not None:
            yield answer
        if request.number is not None and not stopping:
            stopping, deadline = True, time.monotonic() + SIGNAL_GRACE
            for child in children.values():
                child.terminate()  # those that Ctrl-C has reached take no notice
        if failures and deadline == math.inf:
            if any(isinstance(failure, Halted) for failure in failures):
                deadline = time.monotonic() + SIGNAL_GRACE  # all stop at the same minibatch
            else:
                deadline = time.monotonic() + GRACE
                for child in children.values() if hasattr(signal, "SIGUSR2") else ():
                    child.send_signal(signal.SIGUSR2)  # `network.lost`
        if time.monotonic() > deadline:  # `started` kills them
            failures.append(network.Lost("killed"))
            return


def _failure(rank: int, error: RNNScratchError) -> RNNScratchError:
    # The error as the user gets it; Lost if it may follow from another worker's. An engine may
    # abort its worker when another one has ended. All diverge after the same minibatch, and worker
    # 0 has more to say of it.
    named = f"Worker {rank} has failed: {error.problem}"
    if "SIGABRT" in error.problem or (rank and isinstance(error, Diverged)):
        return network.Lost(named)
    if isinstance(error, (network.Lost, Halted)):
        return error
    crashed = isinstance(error, processes.Crashed)
    return RNNScratchError(named, error.hint) if rank or crashed else error


def _first_cause(failures: list[RNNScratchError], number: int | None) -> BaseException:
    # What has led to all of these failures.
    halted = [signal.Signals[error.problem] for error in failures if isinstance(error, Halted)]
    if number or halted:
        return signals.Stopped(number or halted[0])
    return min(failures, key=lambda error: isinstance(error, network.Lost))
