"""Sessions of a run: the first one, those that resume it, and the record of each.

A session holds a lock on the run's folder. It adds each epoch to the history when it ends, and
writes a checkpoint as often as costs no more than a hundredth of the time, and at its end. The
history is on the disk before the checkpoint is: after a kill or a power cut at any moment, the run
continues from the checkpoint, and lines of later epochs are removed from the history.

The best checkpoint, that of the epoch with the lowest loss on held-out text, is kept in memory
until the other one is written, and is written just before it. So it is never missing, and if a kill
comes between the two, the run continues from the best one, which is then the later one.
"""

import contextlib
import datetime
import os
import secrets
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..contract import Team
from ..errors import RNNScratchError, shown
from ..parameters import trained_arrays
from ..settings import Settings
from ..system import files, host, locks, records, signals
from ..system.records import Record
from ..text import books, dataset
from . import checkpoint, curve, run_folder, training
from .checkpoint import NOTHING, Checkpoint
from .events import Ended, Event, Message, Progress, Started
from .resumption import early_stop_reason, resumable
from .run import Run
from .run_folder import Epoch, RunRecord, Session
from .runtime import Runtime
from .setup import Setup, set_up
from .training import Diverged

SHARE = 0.01  # of the time, for writing checkpoints
LEAST_OFTEN = 300.0  # seconds between two checkpoints, however long it takes to write one


class Work(Record):
    """What a session trains, by itself or as one of several workers."""

    settings: Settings
    text: books.Text
    runtime: Runtime
    folder: str | None  # of the run; None: a new one
    resumes: bool = False
    patience: int = 0  # epochs without a lower loss on held-out text after which it ends; 0: none


def train(work: Work, team: Team | None = None) -> Generator[Event, None, Run]:
    """Train a new model, or continue a run exactly as if it had never been interrupted.

    What is invalid is reported before the folder is created. With a team, this is its first worker;
    the others call `follow`.
    """
    path = None if work.folder is None else Path(work.folder)
    if work.resumes and path is not None:
        return (yield from _resume(path, work, team))
    setup = set_up(work.settings, work.runtime, work.text, team=team)
    folder = run_folder.create(path, work.runtime.backend)
    identity, text = secrets.token_hex(16), dataset.describe(work.text, setup.text)
    about: dict[str, Any] = {"identity": identity, "settings": work.settings, "text": text}
    record = RunRecord(format=run_folder.RUN_FORMAT, sessions=[], **about)
    start = Checkpoint(
        vocab=setup.text.vocab,
        epoch=0,
        history=identity,
        runtime=setup.runtime,
        arrays=trained_arrays(setup.model),
        **about,
    )
    with _lock(folder):
        try:
            checkpoint.save(folder / checkpoint.FILE, start)
            _begin(folder, record, start, setup, work.patience)
        except BaseException:  # no run has started: leave no folder behind
            files.remove(folder)
            raise
        return (yield from _session(folder, record, start, setup))


def _resume(folder: Path, work: Work, team: Team | None) -> Generator[Event, None, Run]:
    with _lock(folder):
        epochs = work.settings.num_epochs
        before, record, text = resumable(folder, epochs, work.text, {}, work.patience)
        setup = set_up(before.settings, work.runtime, text, before.arrays, team)
        if setup.text.vocab != before.vocab:
            raise RNNScratchError(
                f"The checkpoint in {folder} is damaged: its vocabulary is not that of its text.\n"
                "Take it from a backup, or train a new run."
            )
        before.runtime = setup.runtime
        _begin(folder, record, before, setup, work.patience)
        return (yield from _session(folder, record, before, setup))


def follow(work: Work, team: Team) -> Generator[Event, None, None]:
    """Train as one of a team's workers after the first, whose session it is; yield the progress."""
    setup = set_up(work.settings, work.runtime, work.text, team=team)
    with signals.deferred() as request:
        for chunk in training.train_in_chunks(setup, 0, NOTHING, request):
            if isinstance(chunk, Progress):
                yield chunk  # the first worker keeps the results


def _lock(folder: Path) -> contextlib.AbstractContextManager[None]:
    def refusal() -> str:
        holder = ""
        with contextlib.suppress(RNNScratchError):
            session = run_folder.read(folder).sessions[-1]
            if session.outcome == "running":
                holder = f", process {session.process}, since {session.started}"
        return (
            f"The run in {folder} is being trained by another session{holder}.\n"
            "Wait until it ends, or stop it."
        )

    return locks.hold(folder, refusal)


def _begin(
    folder: Path, record: RunRecord, before: Checkpoint, setup: Setup, patience: int
) -> None:
    # Add a session to the record, of epochs after those of the checkpoint.
    run_folder.repair_history(folder, before.epoch)
    session = Session(
        started=_now(),
        process=os.getpid(),
        from_epoch=before.epoch,
        runtime=setup.runtime,
        machine=host.describe(),
        environment=setup.backend.machine.environment(),
        engine=setup.backend.workers.engine() if setup.team is not None else None,
        outcome="running",
        patience=patience,
    )
    record.sessions.append(session)
    records.write(folder / run_folder.RUN_FILE, record)


def _session(
    folder: Path, record: RunRecord, before: Checkpoint, setup: Setup
) -> Generator[Event, None, Run]:
    # Train from a checkpoint to the last epoch; the record is completed even after an error.
    due, reason, patience = 0.0, None, record.sessions[-1].patience
    history = run_folder.history(folder)
    best = run_folder.best(history)
    unsaved: dict[str, Checkpoint] = {}  # by the name of the file
    with signals.deferred() as request:
        latest = before
        try:
            session = record.sessions[-1]
            yield Started(folder=str(folder), settings=before.settings, session=session)
            parts = training.train_in_chunks(setup, before.epoch, before.incomplete, request)
            for chunk in parts:
                if isinstance(chunk, Progress):
                    yield chunk
                    continue
                incomplete, arrays, epoch = chunk
                latest = replace(latest, arrays=arrays, incomplete=incomplete)
                unsaved[checkpoint.FILE] = latest
                files.require_in_place(folder)
                if not files.exists(folder / run_folder.HISTORY):
                    yield Message(text=f"{run_folder.HISTORY} was deleted, and is written again")
                    run_folder.write_history(folder, history)
                if epoch is not None:
                    epoch = run_folder.sealed(epoch, latest.history)
                    run_folder.append(folder, epoch)
                    history.append(epoch)
                    latest.epoch, latest.incomplete = epoch.epoch, NOTHING
                    latest.history = epoch.digest
                    best = run_folder.best((best, epoch))
                    if best is epoch:
                        unsaved[checkpoint.BEST] = latest
                    reason = early_stop_reason(best, epoch.epoch, patience)
                    request.enough = reason is not None
                if time.perf_counter() >= due:
                    due, before = _save(folder, unsaved), latest
                if epoch is not None:
                    yield epoch
            if unsaved:
                _save(folder, unsaved)
            if reason is not None:
                yield Message(text=f"training ends after epoch {latest.epoch}: {reason}")
            predictions = training.predictions(setup)
        except BaseException as error:
            interrupted = isinstance(error, (KeyboardInterrupt, GeneratorExit))
            outcome = "interrupted" if interrupted else "failed"
            problem = str(error) if isinstance(error, RNNScratchError) else shown(error)
            # On a full disk, or without the folder, this fails as well; the first error is the one
            # to report.
            with contextlib.suppress(RNNScratchError):
                if unsaved:
                    _save(folder, unsaved)
            end = {"to_epoch": (before if unsaved else latest).epoch, "outcome": outcome}
            with contextlib.suppress(RNNScratchError):
                _close(folder, record, history, **end, reason=problem)
            if not isinstance(error, GeneratorExit):  # then nobody reads more events
                yield Ended(session=record.sessions[-1], best=best)
            if isinstance(error, Diverged):
                kept = f"The checkpoint of epoch {latest.epoch} is kept."
                raise Diverged(f"{error}\n{kept}") from error
            raise
        end = {"to_epoch": latest.epoch, "outcome": "finished"}
        _close(folder, record, history, **end, reason=reason, predictions=predictions)
        yield Ended(session=record.sessions[-1], best=best)
    return Run(folder, history, record, setup.text.vocab, latest.arrays)


def _save(folder: Path, unsaved: dict[str, Checkpoint]) -> float:
    # Save checkpoints; returns the time at which the next ones are due.
    start = time.perf_counter()
    files.sync(folder / run_folder.HISTORY)
    for name in (checkpoint.BEST, checkpoint.FILE):
        if name in unsaved:
            checkpoint.save(folder / name, unsaved[name])
            del unsaved[name]
    end = time.perf_counter()
    return end + min((end - start) / SHARE, LEAST_OFTEN)


def _close(folder: Path, record: RunRecord, history: Sequence[Epoch], **end: Any) -> None:
    # Complete the record with these fields of its last session, and draw the curve.
    session = replace(record.sessions[-1], ended=_now(), **end)
    record.sessions[-1] = session
    records.write(folder / run_folder.RUN_FILE, record)
    if history:
        picture = curve.picture({session.runtime.backend: history})
        files.replace(folder / run_folder.CURVE, picture)


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone().replace(microsecond=0)
