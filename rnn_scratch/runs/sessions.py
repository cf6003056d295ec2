"""Sessions of a run: the first session, sessions that resume the run, and their records.

A session holds the lock of the run's folder. It appends each epoch to the history. It writes
checkpoints at least every 5 minutes, or more often if they take less than 1 % of the time, and a
last checkpoint at its end. The history is synced to disk before each checkpoint: after a kill or a
power cut, the run can be resumed from the checkpoint; later history lines are dropped.
"""

import contextlib
import datetime
import hashlib
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from ..errors import DivergenceError, RNNScratchError, format_value
from ..parameters import trained_arrays
from ..settings import Settings
from ..system import files, host, records, signals
from ..system.files import CorruptedFileError
from ..system.records import Record
from ..text import books, dataset
from ..training.events import EMPTY_EPOCH, Ended, Epoch, Event, Message, Session, Started
from ..training.loop import Chunk, sample, train_in_chunks
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run
from ..workers import WorkerGroup
from . import checkpoint, curve, run_folder
from .checkpoint import Checkpoint
from .run import Run, next_number
from .run_folder import CURVE, HISTORY, RUN_FILE, RunRecord

CHECKPOINT_TIME_FRACTION = 0.01  # target fraction of the training time that checkpoints take
MAX_CHECKPOINT_INTERVAL = 300.0  # seconds


class SessionSpec(Record):
    """The task of a training session."""

    settings: Settings
    text: books.Text
    runtime: Runtime
    folder: str | None  #: folder of the run; None for a new folder
    resumes: bool = False  #: whether the run already exists
    patience: int = 0  #: end after this many epochs without a lower held-out loss; 0: never


def resumed_settings(folder: Path, record: RunRecord, values: dict[str, Any]) -> Settings:
    """Return the settings with which to resume a run; only `num_epochs` may differ.

    Raises RNNScratchError if another setting, or `num_epochs` with a decaying schedule, differs.
    """
    settings, fields = record.settings, asdict(record.settings)
    requested = replace(settings, **values)
    changed = [
        f"`{name}`: {fields[name]} before, {value} now"
        for name, value in asdict(requested).items()
        if fields[name] != value and (name != "num_epochs" or settings.schedule != "constant")
    ]
    if changed:
        problem = f"You can resume the run in {folder} only with its settings. These differ: "
        hint = "Pass the run's values, or train a new run."
        raise RNNScratchError(f"{problem}{'; '.join(changed)}.", hint)
    return requested


def train(spec: SessionSpec, group: WorkerGroup | None = None) -> Generator[Event, None, Run]:
    """Train a new model, or resume a run; the results equal an uninterrupted run's results.

    Invalid arguments raise an error before the folder is created. With several workers, only worker
    0 calls this function; the other workers call `follow`.
    """
    _require_held_out(spec)
    spec = replace(spec, runtime=_runtime(spec, group))
    with contextlib.ExitStack() as stack:
        prepare = _resume if spec.resumes else _create
        writer, warning = prepare(spec, group, stack)
        start, run, reason = writer.latest, writer.run, None
        if group is not None:
            group.broadcast((spec, start))
        for message in (warning, *_hints(run)):
            if message:
                yield Message(text=message)
        request = stack.enter_context(signals.deferred())
        try:
            yield Started(
                folder=str(writer.folder), settings=start.settings, session=writer.session
            )
            for chunk in train_in_chunks(run, start.epoch, start.incomplete, request):
                if not isinstance(chunk, Chunk):
                    yield chunk
                    continue
                writer.add(chunk)
                writer.save(if_due=True)
                if chunk.epoch is not None:
                    reason = writer.early_stop_reason()
                    request.complete = reason is not None
                    yield chunk.epoch
            writer.save()
            if reason is not None:
                yield Message(text=f"early stopping after epoch {writer.latest.epoch}: {reason}")
            texts = [sample(run)]
        except BaseException as error:
            interrupted = isinstance(error, (KeyboardInterrupt, GeneratorExit))
            problem = str(error) if isinstance(error, RNNScratchError) else format_value(error)
            # On a full disk, these writes also fail; report only the first error.
            with contextlib.suppress(RNNScratchError):
                writer.save()
            with contextlib.suppress(RNNScratchError):
                writer.close("interrupted" if interrupted else "failed", problem)
            if not isinstance(error, GeneratorExit):
                yield Ended(session=writer.session, best=writer.best)
            if isinstance(error, DivergenceError):
                note = f"Checkpoint saved at {writer.saved.position}."
                raise DivergenceError(error.problem, f"{error.hint}\n{note}") from error
            raise
        try:
            writer.close("finished", reason, texts)
        finally:
            yield Ended(session=writer.session, best=writer.best)
        if group is not None:
            group.is_running = False
        return Run(writer.folder, writer.history, writer.record, start.vocab, writer.latest.arrays)


def follow(group: WorkerGroup) -> None:
    """Train as a worker other than worker 0, which reports and stores the results."""
    spec, start = group.broadcast(None)
    run = prepare_run(spec.settings, spec.runtime, spec.text, start.arrays, group)
    with signals.deferred() as request:
        for _ in train_in_chunks(run, start.epoch, start.incomplete, request):
            pass
    group.is_running = False


def _runtime(spec: SessionSpec, group: WorkerGroup | None) -> Runtime:
    """Return the runtime with the number of workers and, if they share cores, of threads."""
    if group is None:
        return replace(spec.runtime, workers=1)
    if spec.settings.batch_size % group.size:
        raise RNNScratchError(
            f"`batch_size` {spec.settings.batch_size} cannot be divided equally among {group.size} "
            "workers.",
            f"Use a multiple of {group.size}.",
        )
    threads = spec.runtime.threads or max(1, host.cores() // group.num_local)
    return replace(spec.runtime, workers=group.size, threads=threads)


def _require_held_out(spec: SessionSpec) -> None:
    """Raise RNNScratchError if early stopping is requested, but no text is held out."""
    if spec.patience and not spec.settings.holds_out:
        raise RNNScratchError(
            f"Early stopping (`patience` {spec.patience}) requires held-out text.",
            "Use `valid_share=0.1`, or `patience=0`.",
        )


def _create(
    spec: SessionSpec, group: WorkerGroup | None, stack: contextlib.ExitStack
) -> tuple["_RunWriter", str]:
    """Create the run's folder, and lock it until the stack exits; return a writer and a warning."""
    run = prepare_run(spec.settings, spec.runtime, spec.text, group=group)
    path = None if spec.folder is None else Path(spec.folder)
    folder = run_folder.create(path, spec.runtime.backend)
    warning = stack.enter_context(files.locked(folder))
    files.sync_folder(folder.parent)
    record = RunRecord(
        format=run_folder.RUN_FORMAT,
        settings=spec.settings,
        text=dataset.describe(spec.text, run.dataset),
        number=next_number(folder.parent),
        sessions=[],
    )
    start = _first_checkpoint(record, run)
    return _RunWriter(folder, record, [], start, spec, run), warning


def _resume(
    spec: SessionSpec, group: WorkerGroup | None, stack: contextlib.ExitStack
) -> tuple["_RunWriter", str]:
    """Lock the run's folder until the stack exits, and read its files; return as `_create`."""
    folder, num_epochs = Path(spec.folder or ""), spec.settings.num_epochs
    warning = stack.enter_context(files.locked(folder))
    record, (saved, history) = run_folder.read(folder), checkpoint.latest(folder)
    settings = replace(record.settings, num_epochs=num_epochs)
    if saved is not None:
        saved = replace(saved, settings=replace(saved.settings, num_epochs=num_epochs))
        # If a session was killed between these two files, they may name different paths.
        names = ("corpus", "origin", "beginning")
        location = {name: getattr(saved.text, name) for name in names}
        if (settings, replace(record.text, **location)) != (saved.settings, saved.text):
            problem = f"{folder / RUN_FILE} is damaged: it does not belong to the checkpoint"
            raise CorruptedFileError(f"{problem} next to it.", run_folder.BACKUP)
    last_epoch, arrays = (saved.epoch, saved.arrays) if saved else (0, None)
    if num_epochs <= last_epoch:
        raise RNNScratchError(
            f"Nothing left to train: the run in {folder} has {last_epoch} epochs.",
            "Pass a larger `num_epochs`; after a schedule has ended, train a new run.",
        )
    text = run_folder.reload_text(folder, record.text, spec.text)
    run = prepare_run(settings, spec.runtime, text, arrays, group)
    record = replace(record, settings=settings, text=dataset.describe(text, run.dataset))
    start = saved or _first_checkpoint(record, run)
    start = replace(start, runtime=run.runtime, text=record.text)
    return _RunWriter(folder, record, history, start, spec, run), warning


def _hints(run: RunContext) -> Iterator[str]:
    """Yield lines that explain which code and device train the model."""
    if run.runtime.model == "scratch" and run.model.options.needs_deep:
        yield "These options use `deep_step` in deep.py instead of `step` in scratch.py."
    best, *_ = run.backend.machine.devices(run.settings.dtype)
    if best != run.runtime.device:
        yield f'To train on the GPU, use `device="{best}"`; no GPU has been tested yet.'


def _first_checkpoint(record: RunRecord, run: RunContext) -> Checkpoint:
    return Checkpoint(
        vocab=run.dataset.vocab,
        settings=record.settings,
        epoch=0,
        text=record.text,
        runtime=run.runtime,
        arrays=trained_arrays(run.model),
    )


class _RunWriter:
    """The writer of a run's files during a session: record, history and checkpoints."""

    def __init__(
        self,
        folder: Path,
        record: RunRecord,
        history: list[Epoch],
        latest: Checkpoint,
        spec: SessionSpec,
        run: RunContext,
    ) -> None:
        """Start a session from a run's latest state; the caller must hold the folder's lock."""
        session = Session(
            started=_now(),
            process=os.getpid(),
            from_epoch=latest.epoch,
            runtime=run.runtime,
            machine=host.describe(),
            environment=run.backend.machine.versions(),
            outcome="running",
            patience=spec.patience,
        )
        record.sessions.append(session)
        lines = b"".join(map(records.line, history))
        # Write the record first: if the process is killed afterwards, the run can be resumed.
        records.write(folder / RUN_FILE, record)
        files.replace(folder / HISTORY, lines)
        self.folder, self.record, self.history, self.latest = folder, record, history, latest
        self.best = run_folder.best(history)
        self.size, self.sha256 = len(lines), hashlib.sha256(lines)
        self.run = run
        checkpoint.save(folder / checkpoint.FILE, latest)
        self.saved = latest  # latest checkpoint on disk
        self.due = 0.0  # earliest time of the next periodic checkpoint

    @property
    def session(self) -> Session:
        """The record of this session."""
        return self.record.sessions[-1]

    def add(self, chunk: Chunk) -> None:
        """Add the trained minibatches; append the epoch to the history if it is complete."""
        self.latest = replace(self.latest, arrays=chunk.arrays, incomplete=chunk.partial)
        epoch = chunk.epoch
        if epoch is None:
            return
        line = records.line(epoch)
        files.append(self.folder / HISTORY, line)
        self.history.append(epoch)
        self.size += len(line)
        self.sha256.update(line)
        progress: dict[str, Any] = {"epoch": epoch.epoch, "history_size": self.size}
        progress["history_sha256"] = self.sha256.hexdigest()
        self.best = run_folder.best((self.best, epoch))
        if self.best is epoch:
            progress["best_epoch"] = epoch.epoch
            progress["best"] = {
                name: chunk.arrays[name] for name in self.run.model.options.shapes()
            }
        self.latest = replace(self.latest, incomplete=EMPTY_EPOCH, **progress)

    def early_stop_reason(self) -> str | None:
        """Return the reason to end training after the latest epoch, or None to continue."""
        epoch, patience = self.latest.epoch, self.session.patience
        if self.best is None or not 0 < patience <= epoch - self.best.epoch:
            return None
        return f"no improvement since epoch {self.best.epoch} (`patience` {patience})"

    def save(self, if_due: bool = False) -> None:
        """Save the latest state if unsaved and, with `if_due`, only if a checkpoint is due."""
        start = time.perf_counter()
        if self.latest is self.saved or (if_due and start < self.due):
            return
        checkpoint.save(self.folder / checkpoint.FILE, self.latest)
        self.saved = self.latest
        end = time.perf_counter()
        self.due = end + min((end - start) / CHECKPOINT_TIME_FRACTION, MAX_CHECKPOINT_INTERVAL)

    def close(self, outcome: str, reason: str | None, predictions: list[str] | None = None) -> None:
        """Complete the record of the session, and plot the curve."""
        end = {"ended": _now(), "to_epoch": self.saved.epoch, "predictions": predictions or []}
        self.record.sessions[-1] = replace(self.session, outcome=outcome, reason=reason, **end)
        records.write(self.folder / RUN_FILE, self.record)
        if self.history:
            picture = curve.picture({self.session.runtime.backend: self.history})
            files.replace(self.folder / CURVE, picture)


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone().replace(microsecond=0)
