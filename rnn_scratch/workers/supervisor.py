"""Train with several workers: as one of them, or as the parent of all on this machine.

The parent computes nothing. It passes on the events of worker 0. When a worker ends too early, it
ends the others: by their own errors, or after a while by a kill. The run keeps its last checkpoint.
"""

import contextlib
import math
import queue
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from .. import registry
from ..contract import Team
from ..errors import RNNScratchError
from ..runs import checkpoint, run_folder
from ..runs.events import Ended, Event, Started
from ..runs.run import Run
from ..runs.sessions import Work
from ..runs.training import Diverged
from ..settings import by_option
from ..system import host, processes, signals
from ..text import books, dataset
from . import groups, meeting, worker
from .launch import Launch, forget_mpi
from .worker import Failure

GRACE = 5.0  # seconds for the other workers to end by themselves when one has failed
SIGNAL_GRACE = 30.0  # seconds for all workers to end when a signal asks for it
Messages = queue.Queue[tuple[int, Event | Failure | processes.Ended]]  # with the rank
Failures = dict[int, Failure]  # by rank, in the order of their arrival


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
    return (yield from worker.train(Team(launch.rank, tuple(met.addresses)), work))


def follow(
    launch: Launch, text: books.Text | None, chosen: dict[str, Any], say: Callable[[str], None]
) -> Generator[Event, None, Run | None]:
    """Train with worker 0, which resumes a run in a folder that only worker 0 needs."""
    known = {"--resume": "yes", **_versions(chosen["backend"])}
    known |= {f"--{name}": chosen[name] for name in ("backend", "model") if chosen[name]}
    met = meeting.meet(launch, known, say=say)
    work = msgspec.json.decode(met.job, type=Work)
    text = dataset.reload_and_verify(work.text, text)
    runtime = replace(work.runtime, threads=None, device="auto").but(**chosen)
    work = replace(work, text=text, runtime=runtime)
    return (yield from worker.train(Team(launch.rank or 0, tuple(met.addresses)), work))


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


def _supervise(work: Work) -> Generator[Event, None, Run]:
    forget_mpi()
    workers = work.runtime.workers
    threads = work.runtime.threads or max(1, host.cores() // workers)  # they share the cores
    work = replace(work, runtime=replace(work.runtime, threads=threads))
    known = tuple(groups.addresses(workers))
    messages: Messages = queue.Queue()
    failures: Failures = {}
    began: Started | None = None
    ended = False
    with signals.deferred() as request, contextlib.ExitStack() as stack:
        children: dict[int, processes.Child] = {}
        for rank in range(workers):
            call = partial(worker.run, Team(rank, known), work)
            children[rank] = stack.enter_context(processes.started(rank, call, messages.put))
        try:
            for event in _events(children, messages, failures, request):
                began = event if isinstance(event, Started) else began
                ended = isinstance(event, Ended)
                yield event
        except BaseException:  # of whoever receives the events
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
    messages: Messages,
    failures: Failures,
    request: signals.Request,
) -> Iterator[Event]:
    # The events of worker 0, until all workers have ended, or have had the time for it.
    running, deadline = set(children), math.inf
    stopping = False
    while running:
        with contextlib.suppress(queue.Empty):
            rank, message = messages.get(timeout=processes.LOOK)
            match message:
                case processes.Ended(error):
                    running.remove(rank)
                    if error is not None:
                        failures.setdefault(rank, _failure(rank, error))
                case Failure():
                    failures[rank] = message
                case _:
                    yield message
        if request.number is not None and not stopping:
            stopping, deadline = True, time.monotonic() + SIGNAL_GRACE
            for child in children.values():
                child.terminate()  # those that Ctrl-C has reached take no notice
        if failures and deadline == math.inf:
            if any(failure.kind == "stopped" for failure in failures.values()):
                deadline = time.monotonic() + SIGNAL_GRACE  # all stop at the same minibatch
            else:
                deadline = time.monotonic() + GRACE
                for rank in running if hasattr(signal, "SIGUSR2") else ():
                    children[rank].send_signal(signal.SIGUSR2)  # `network.lost`
        if time.monotonic() > deadline:  # whoever started them kills them
            for rank in running:
                failures.setdefault(rank, Failure(problem="killed", kind="follows"))
            return


def _failure(rank: int, error: RNNScratchError) -> Failure:
    # Of a worker that could not say how it ended. An engine may abort its worker when another one
    # has ended.
    kind = "follows" if "SIGABRT" in error.problem else "error"
    problem = f"Worker {rank} has failed: {error.problem}"
    return Failure(problem=problem, hint=error.hint, kind=kind)  # type: ignore[arg-type]


def _first_cause(failures: Failures, number: int | None) -> BaseException:
    # What has led to all of these failures.
    stopped = [failure.number for failure in failures.values() if failure.kind == "stopped"]
    if number or stopped:
        return signals.Stopped(number or stopped[0])
    cause = min(failures.values(), key=lambda failure: failure.kind == "follows")
    kind = Diverged if cause.kind == "diverged" else RNNScratchError
    return kind(cause.problem, cause.hint)
