"""Sessions of a run: the first one, those that resume it, and the record of each.

A session holds a lock in the run's folder. It adds each epoch to the history when it ends, and
writes a checkpoint as often as costs no more than a hundredth of the time, and at its end. The
history is on the disk before the checkpoint is: after a kill or a power cut at any moment, the run
continues from the checkpoint, and lines of later epochs are removed from the history. Before it
writes anything, a session makes sure that the record in the folder is still the one it wrote: not
that of another run, or of another session.
"""

import contextlib
import datetime
import os
import secrets
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..contract import Team
from ..errors import RNNScratchError, shown
from ..parameters import trained_arrays
from ..settings import Settings, by_option, differences
from ..system import files, host, locks, records, signals
from ..system.records import Record
from ..text import books, dataset, vocabulary
from . import checkpoint, curve, run_folder, training
from .checkpoint import NOTHING, Checkpoint
from .events import Ended, Event, Message, Started
from .run import Run, numbered
from .run_folder import CURVE, HISTORY, RUN_FILE, Epoch, History, Mark, RunRecord, Session
from .runtime import Runtime
from .setup import Setup, set_up
from .training import Chunk, Diverged

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


def resumed(folder: Path, record: RunRecord, num_epochs: int, values: dict[str, Any]) -> Settings:
    """Return the settings of a run that is to be resumed, as its record has them.

    RNNScratchError if one of the settings in `values` differs, or the schedule ends elsewhere.
    """
    before, settings = record.settings, replace(record.settings, num_epochs=num_epochs)
    given = replace(settings, **values)
    if changed := differences(by_option(settings), by_option(given)):
        raise RNNScratchError(
            f"You can resume the run in {folder} only with its settings. These differ: "
            + "; ".join(changed)
            + ".",
            "Omit these options, or train a new run.",
        )
    if settings.schedule != "constant" and num_epochs != before.num_epochs:
        raise RNNScratchError(
            f"The {settings.schedule} schedule of the run in {folder} ends with epoch "
            f"{before.num_epochs} (got `--epochs {num_epochs}`).",
            f"Resume it with `--epochs {before.num_epochs}`, or train a new run.",
        )
    return settings


def require_held_out(settings: Settings, patience: int) -> None:
    """Raise RNNScratchError for a patience without held-out text."""
    if patience and not settings.holds_out:
        raise RNNScratchError(
            f"`--patience {patience}` needs held-out text to compare epochs on.",
            "Begin a run with held-out text, `--valid-share 0.1`, or omit `--patience`.",
        )


def train(work: Work, team: Team | None = None) -> Generator[Event, None, Run]:
    """Train a new model, or continue a run exactly as if it had never been interrupted.

    What is invalid is reported before the folder is created. With a team, this is its first worker;
    the others call `follow`.
    """
    path = None if work.folder is None else Path(work.folder)
    if work.resumes and path is not None:
        return (yield from _resume(path, work, team))
    setup = set_up(work.settings, work.runtime, work.text, team=team)
    for line in vocabulary.warning(setup.dataset.vocab, work.runtime.model):
        yield Message(text=line)
    about: dict[str, Any] = {"identity": secrets.token_hex(16), "settings": work.settings}
    about["text"] = dataset.describe(work.text, setup.dataset)
    start = Checkpoint(
        vocab=setup.dataset.vocab,
        epoch=0,
        history=Mark(),
        runtime=setup.runtime,
        arrays=trained_arrays(setup.model),
        **about,
    )
    with contextlib.ExitStack() as stack:
        with signals.deferred() as request:
            folder = run_folder.create(path, work.runtime.backend)
            try:
                stack.enter_context(_lock(folder))
                files.sync(folder.parent)
                checkpoint.save(folder / checkpoint.FILE, start)
                files.replace(folder / HISTORY, b"")
                last = max(numbered(folder.parent), default=0)
                number = min(last + 1, run_folder.LAST_NUMBER)  # a copied run may have it
                record = RunRecord(
                    format=run_folder.RUN_FORMAT, number=number, sessions=[], **about
                )
                keeper = _Keeper(folder, record, History(), start, setup, work.patience)
                request.check()
            except BaseException:  # no session has begun: leave no folder behind
                stack.close()  # Windows does not delete open files
                files.remove(folder, locks.LOCK, checkpoint.FILE, HISTORY, RUN_FILE)
                raise
        return (yield from _session(keeper, setup))


def _resume(folder: Path, work: Work, team: Team | None) -> Generator[Event, None, Run]:
    # Read each file once, repair what a kill has left, and train on.
    num_epochs, patience = work.settings.num_epochs, work.patience
    with _lock(folder):
        record = run_folder.read(folder)
        before = checkpoint.load(folder)
        settings, last = replace(before.settings, num_epochs=num_epochs), before.epoch
        recorded = replace(record.settings, num_epochs=num_epochs)
        if (recorded, record.text) != (settings, before.text):
            problem = f"{folder / RUN_FILE} is damaged: it does not belong to the checkpoint"
            raise run_folder.damaged(folder, f"{problem} beside it.")
        history = run_folder.read_history(folder, before.history)
        files.delete_temporary(folder)
        if before.epoch:
            files.truncate(folder / HISTORY, history.size)
        else:  # the file may be missing
            files.replace(folder / HISTORY, b"")
        if num_epochs <= last:
            raise RNNScratchError(
                f"Nothing left to train: the run in {folder} has {last} epochs.",
                "Pass a larger `--epochs`.",
            )
        if reason := _early_stop_reason(run_folder.best(history.epochs), last, patience):
            raise RNNScratchError(
                f"The run in {folder} ended after epoch {last}: {reason}.",
                "Pass a larger `--patience`, or `--patience 0` to train all epochs.",
            )
        text = dataset.reload_and_verify(record.text, work.text)
        setup = set_up(settings, work.runtime, text, before.arrays, team)
        if setup.dataset.vocab != before.vocab:
            problem = f"The checkpoint in {folder} is damaged"
            raise run_folder.damaged(folder, f"{problem}: its vocabulary is not that of its text.")
        record = replace(record, settings=settings)
        before = replace(before, settings=settings, runtime=setup.runtime)
        keeper = _Keeper(folder, record, history, before, setup, patience)
        return (yield from _session(keeper, setup))


def follow(work: Work, team: Team) -> Generator[Event, None, None]:
    """Train as one of a team's workers after the first, whose session it is; yield the progress."""
    setup = set_up(work.settings, work.runtime, work.text, team=team)
    with signals.deferred() as request:
        for chunk in training.train_in_chunks(setup, 0, NOTHING, request):
            if not isinstance(chunk, Chunk):
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


def _early_stop_reason(best: Epoch | None, last: int, patience: int) -> str | None:
    # Why training ends after epoch `last`, or None if it does not: the patience is over.
    if best is None or not 0 < patience <= last - best.epoch:
        return None
    return f"{last - best.epoch} epochs no better than epoch {best.epoch} (`--patience {patience}`)"


def _session(keeper: "_Keeper", setup: Setup) -> Generator[Event, None, Run]:
    # Train from a checkpoint to the last epoch; the record is completed even after an error.
    folder, before = str(keeper.folder), keeper.latest
    reason, patience = None, keeper.session.patience
    with signals.deferred() as request:
        try:
            yield Started(folder=folder, settings=before.settings, session=keeper.session)
            chunks = training.train_in_chunks(setup, before.epoch, before.incomplete, request)
            for chunk in chunks:
                if not isinstance(chunk, Chunk):
                    yield chunk
                    continue
                keeper.add(chunk)
                if chunk.epoch is not None:
                    reason = _early_stop_reason(keeper.best, chunk.epoch.epoch, patience)
                    request.enough = reason is not None
                keeper.save(if_due=True)
                if chunk.epoch is not None:
                    yield chunk.epoch
            keeper.save()
            if reason is not None:
                yield Message(text=f"training ends after epoch {keeper.latest.epoch}: {reason}")
            predictions = training.predictions(setup)
        except BaseException as error:
            interrupted = isinstance(error, (KeyboardInterrupt, GeneratorExit))
            problem = str(error) if isinstance(error, RNNScratchError) else shown(error)
            # A record is UTF-8, which the name of a folder need not be.
            problem = problem.encode(errors="backslashreplace").decode()
            # On a full disk, or without the folder, this fails as well; the first error is the one
            # to report.
            with contextlib.suppress(RNNScratchError):
                keeper.save()
            with contextlib.suppress(RNNScratchError):
                keeper.close("interrupted" if interrupted else "failed", problem)
            if not isinstance(error, GeneratorExit):  # then nobody reads more events
                yield Ended(session=keeper.session, best=keeper.best)
            if isinstance(error, Diverged):
                kept = f"The checkpoint of {keeper.saved.position} is kept."
                raise Diverged(error.problem, f"{error.hint}\n{kept}") from error
            raise
        try:
            keeper.close("finished", reason, predictions)
        finally:
            yield Ended(session=keeper.session, best=keeper.best)
    latest, history = keeper.latest, keeper.history.epochs
    return Run(keeper.folder, history, keeper.record, latest.vocab, latest.arrays)


class _Keeper:
    """Writes what a session has trained: the history, checkpoints, and the end of the session."""

    def __init__(
        self,
        folder: Path,
        record: RunRecord,
        history: History,
        latest: Checkpoint,
        setup: Setup,
        patience: int,
    ) -> None:
        """Begin a session after the latest state of a run; this process has the folder's lock."""
        session = Session(
            started=_now(),
            process=os.getpid(),
            from_epoch=latest.epoch,
            runtime=setup.runtime,
            machine=host.describe(),
            environment=setup.backend.machine.environment(),
            engine=setup.backend.workers.engine() if setup.team is not None else None,
            outcome="running",
            patience=patience,
        )
        record.sessions.append(session)
        self.written = records.write(folder / RUN_FILE, record)
        self.folder, self.record, self.history, self.latest = folder, record, history, latest
        self.best = run_folder.best(history.epochs)
        self.names = setup.model.options.shapes()
        self.saved = latest  # as it is on the disk
        self.due = 0.0  # the time at which to write the next checkpoint

    @property
    def session(self) -> Session:
        """The record of this session."""
        return self.record.sessions[-1]

    def add(self, chunk: Chunk) -> None:
        """Keep what has been trained; write the history again if it was deleted."""
        self.latest = replace(self.latest, arrays=chunk.arrays, incomplete=chunk.incomplete)
        self._verify()
        path, epoch = self.folder / HISTORY, chunk.epoch
        if not files.exists(path):
            files.replace(path, b"".join(map(records.line, self.history.epochs)), self._verify)
        if epoch is None:
            return
        line = records.line(epoch)
        files.append(path, line, self._verify)
        self.history.add(epoch, line)
        progress: dict[str, Any] = {"epoch": epoch.epoch, "history": self.history.mark}
        self.best = run_folder.best((self.best, epoch))
        if self.best is epoch:
            progress["best_epoch"] = epoch.epoch
            progress["best"] = {name: chunk.arrays[name] for name in self.names}
        self.latest = replace(self.latest, incomplete=NOTHING, **progress)

    def save(self, if_due: bool = False) -> None:
        """Write the latest state unless it is on the disk, or only if it is time for it."""
        start = time.perf_counter()
        if self.latest is self.saved or (if_due and start < self.due):
            return
        files.sync(self.folder / HISTORY)
        checkpoint.save(self.folder / checkpoint.FILE, self.latest, self._verify)
        self.saved = self.latest
        end = time.perf_counter()
        self.due = end + min((end - start) / SHARE, LEAST_OFTEN)

    def close(self, outcome: str, reason: str | None, predictions: list[str] | None = None) -> None:
        """Complete the record of the session, and draw the curve."""
        end = {"ended": _now(), "to_epoch": self.saved.epoch, "predictions": predictions or []}
        self.record.sessions[-1] = replace(self.session, outcome=outcome, reason=reason, **end)
        self.written = records.write(self.folder / RUN_FILE, self.record, self._verify)
        if self.history.epochs:
            picture = curve.picture({self.session.runtime.backend: self.history.epochs})
            files.replace(self.folder / CURVE, picture, self._verify)

    def _verify(self) -> None:
        # Raise RNNScratchError unless the record in the folder is the one that this session wrote.
        path = self.folder / RUN_FILE
        try:
            if files.read(path, len(self.written)) == self.written:
                return
        except (FileNotFoundError, NotADirectoryError, ValueError):
            pass
        except OSError as error:
            raise files.unreadable(path, error) from error
        raise RNNScratchError(
            f"The folder {self.folder} no longer contains the run that this session trains: the "
            "folder or its record was moved, replaced or deleted.",
            "Training stops. If you moved the folder, resume the run in its new place.",
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone().replace(microsecond=0)
