"""Trains with several workers: starts them, passes on their progress, and ends all if one fails.

The workers are processes of their own (`worker`); this one computes nothing. Whatever happens to a
worker, the others end, with their own errors or killed, and the run keeps its last checkpoint. A
worker that dies is noticed at once, and a machine's silence by `rendezvous`.
"""

import contextlib
import queue
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from .. import registry
from ..errors import RNNScratchError
from ..runs import checkpoint, run_folder
from ..runs.events import Ended, Event, Message, Progress, Started
from ..runs.run import Run
from ..runs.run_folder import Epoch, Session
from ..runs.sessions import Work
from ..runs.training import Diverged
from ..settings import by_option
from ..system import host, processes, signals
from ..text import books, dataset
from . import groups, messages, rendezvous, worker
from .launch import Launch
from .messages import Alive, Problem, Welcome
from .rendezvous import Meeting, Peer

PAUSE = 30.0  # seconds between two looks at the workers, from which on a Ctrl-Z has stopped all
STALL = 600.0  # seconds without a minibatch after which a worker is taken for hanging
GRACE = 5.0  # seconds for the other workers to end by themselves
SIGNAL_GRACE = 30.0  # seconds, likewise, after a signal has stopped one
FOR_USERS = ("error", "diverged")  # kinds of failures that are no bug and no accident


def train(
    work: Work, launch: Launch, say: Callable[[str], None]
) -> Generator[Event, None, Run | None]:
    """Train with several workers; the run, or None where worker 0 is on another machine.

    `say` gets lines for the user before the training begins; its events are yielded.
    Raises RNNScratchError with the worker that has failed and the reason, and Stopped if a signal
    has stopped one of them.
    """
    met: AbstractContextManager[Meeting]
    if launch.rank is None:
        welcome = Welcome(addresses=groups.addresses(launch.workers), work=work)
        met = nullcontext((welcome, []))
    elif launch.rank == 0:
        met = rendezvous.wait_for_others(launch, terms(work), work, say)
    else:
        met = rendezvous.visit(launch, terms(work), say)
    ranks = range(launch.workers) if launch.rank is None else [launch.rank]
    with met as (welcome, peers):
        return (yield from _Supervisor(work, ranks, welcome.addresses, peers).run())


def follow(
    launch: Launch, text: books.Text | None, chosen: dict[str, Any], say: Callable[[str], None]
) -> Generator[Event, None, Run | None]:
    """Go on with a run whose folder is on another machine, where worker 0 resumes it."""
    rank = launch.rank or 0
    own = {"--resume": "yes", **_versions(chosen["backend"])}
    own |= {f"--{name}": chosen[name] for name in ("backend", "model") if chosen[name] is not None}
    with rendezvous.visit(launch, own, say) as (welcome, peers):
        work = welcome.work
        try:
            text = dataset.reload_and_verify(work.text, text)
        except RNNScratchError as error:  # which only this machine has met
            rendezvous.tell(peers, Problem(reason=_named(rank, str(error))))
            raise
        where = replace(work.runtime, threads=None, device="auto").but(**chosen)
        work = replace(work, text=text, runtime=where)
        return (yield from _Supervisor(work, [rank], welcome.addresses, peers).run())


def terms(work: Work) -> dict[str, str]:
    """What must be equal in all workers, by name."""
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


def _named(rank: int, reason: str) -> str:
    return f"Worker {rank} has failed: {reason}"


class _Supervisor:
    """The workers of this machine, and what is known of the others."""

    def __init__(
        self,
        work: Work,
        ranks: Sequence[int],
        addresses: list[str],
        peers: list[Peer],
    ) -> None:
        self.work, self.ranks = work, ranks
        self.addresses, self.peers = addresses, peers  # of all workers; other machines
        self.events: queue.Queue[tuple[int, messages.Event | processes.Ended]] = queue.Queue()
        self.children: dict[int, processes.Child] = {}  # by rank
        self.heard: set[int] = set()  # the ranks of which there was an event: they handle signals
        self.killed = False  # all workers
        self.running = set(ranks)
        self.counts: dict[int, int] = {}  # of minibatches, by rank
        self.changed = time.monotonic()  # when a count has changed
        self.folder: Path | None = None  # of the run
        self.session: Session | None = None  # the one of worker 0, until it has ended
        self.failures: list[tuple[int, Problem]] = []  # with the rank, in the order of arrival
        self.signal: int | None = None  # that has stopped the training
        self.deadline: float | None = None  # for all to end by themselves

    def run(self) -> Generator[Event, None, Run | None]:
        """Start the workers, and wait until all have ended."""
        runtime = replace(self.work.runtime, workers=len(self.addresses))
        if runtime.threads is None and len(self.ranks) > 1:  # they share the cores
            runtime = replace(runtime, threads=max(1, host.cores() // len(self.ranks)))
        work, put = replace(self.work, runtime=runtime), self.events.put
        calls = {rank: partial(worker.run, rank, self.addresses, work) for rank in self.ranks}
        rendezvous.watch(self.peers, put)
        try:
            with (
                signals.deferred() as request,
                groups.started(calls, put) as self.children,
            ):
                yield from self._wait(request)
                self._require_success()
        except BaseException as error:
            # Worker 0 has not said that its session has ended.
            if self.session is not None and not isinstance(error, GeneratorExit):
                outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                yield Ended(session=replace(self.session, outcome=outcome))
            raise
        rendezvous.tell(self.peers, "done")
        if self.folder is None:
            return None
        saved = checkpoint.load(self.folder)
        history, record = run_folder.history(self.folder), run_folder.read(self.folder)
        return Run(self.folder, history, record, saved.vocab, saved.arrays)

    def _wait(self, request: signals.Request) -> Iterator[Event]:
        # Handle messages, and yield events, until all workers of this machine have ended.
        forwarded: set[int] = set()  # the ranks of the workers that have the signal
        now = time.monotonic()
        while self.running:
            with contextlib.suppress(queue.Empty):
                event = self._handle(*self.events.get(timeout=processes.LOOK))
                if event is not None:
                    yield event
            if request.number is not None:
                self.signal = request.number
                for rank in (self.running & self.heard) - forwarded:
                    forwarded.add(rank)
                    self.children[rank].send_signal(request.number)
            before, now = now, time.monotonic()
            if now - before > PAUSE:
                self.changed = now
            if self.deadline is None and now - self.changed > STALL:
                slowest = min(self.ranks, key=lambda rank: self.counts.get(rank, 0))
                self._gone(slowest, f"no minibatch was trained for {STALL:g} s")
            if self.deadline is not None and now > self.deadline:
                self.killed = True
                for child in self.children.values():
                    child.kill()

    def _handle(self, rank: int, event: messages.Event | processes.Ended) -> Event | None:
        # Returns an event of the training.
        self.heard.add(rank)
        match event:
            case processes.Ended(error):
                self.running.remove(rank)
                if error is not None and not self.killed:
                    self._gone(rank, str(error))
            case Alive():
                if event.minibatches != self.counts.get(rank):
                    self.counts[rank], self.changed = event.minibatches, time.monotonic()
            case signal.Signals():
                self.signal = event
                self.deadline = self.deadline or time.monotonic() + SIGNAL_GRACE
            case Problem():
                self._fail(rank, event)
            case Message() | Started() | Progress() | Epoch() | Ended():
                if isinstance(event, Started):
                    self.folder, self.session = Path(event.folder), event.session
                if isinstance(event, Ended):
                    self.session = None
                return event
        return None

    def _gone(self, rank: int, reason: str) -> None:
        # An engine may abort its worker because another one has ended, before that is noticed here.
        kind: Literal["exception", "gone"] = "exception" if "SIGABRT" in reason else "gone"
        self._fail(rank, Problem(reason=_named(rank, reason), kind=kind))

    def _fail(self, rank: int, failure: Problem) -> None:
        # A worker has failed: the others are to end, on this machine and elsewhere.
        self.failures.append((rank, failure))
        # After a signal the ends of workers are its consequences, and no news for other machines.
        is_news = self.signal is None and failure.kind == "gone"
        if is_news or failure.kind in FOR_USERS:
            self._tell(failure)
        self.deadline = self.deadline or time.monotonic() + GRACE

    def _tell(self, failure: Problem) -> None:
        # The others have no more words for it than these.
        kind = failure.kind if failure.kind in FOR_USERS else "error"
        rendezvous.tell(self.peers, replace(failure, kind=kind))

    def _require_success(self) -> None:
        # Raise what ended the training, if anything did before its end.
        # The first cause: the end of a worker leads to exceptions in others. Of a divergence the
        # first worker has more to say.
        causes = [(p.kind == "exception", p.kind == "diverged" and r > 0) for r, p in self.failures]
        worst = self.failures[causes.index(min(causes))][1] if causes else None
        if self.signal is not None and not (worst and worst.kind in FOR_USERS):
            # A worker that a signal stops at an unlucky moment can make the others fail.
            stopped = signals.Stopped(self.signal)
            rendezvous.tell(self.peers, signal.Signals(self.signal))
            raise stopped
        if worst:
            if worst.kind == "exception":
                self._tell(worst)
            raise (Diverged if worst.kind == "diverged" else RNNScratchError)(worst.reason)
