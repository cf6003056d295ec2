"""A run's training sessions: the first session, and later sessions that resume the run.

A session holds the run folder's lock. A resumed run's results match an uninterrupted run's results.
"""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from ..errors import DivergenceError, RNNScratchError
from ..settings import Settings
from ..system import files, signals
from ..system.files import CorruptedFileError
from ..system.records import Record
from ..text import books, dataset
from ..training.events import Ended, Event, Message, Started
from ..training.loop import Snapshot, sample
from ..training.loop import train as train_epochs
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run
from ..workers import WorkerGroup
from . import checkpoint, run_folder
from .run import Run, read_runs
from .run_folder import RUN_FILE, RunRecord
from .run_writer import RunWriter

# At this length, 92% of the `minute` preset's generated words are English, versus 79% at 27,000.
SUFFICIENT_TOKENS = 90_000


class SessionSpec(Record):
    """The specification of a training session."""

    settings: Settings
    text: books.Text
    runtime: Runtime
    folder: str | None  #: run folder; None for a new folder
    resumes: bool = False  #: whether the session resumes an existing run
    patience: int = 0  #: stop after this many epochs without a lower held-out loss; 0: never


def resumed_settings(folder: Path, record: RunRecord, values: dict[str, Any]) -> Settings:
    """Return the settings for resuming a run; only `num_epochs` may differ.

    Raises RNNScratchError if another setting (or, with a decaying schedule, `num_epochs`) differs.
    """
    settings, fields = record.settings, asdict(record.settings)
    requested = replace(settings, **values)
    changes = [
        f"`{name}`: {fields[name]} before, {value} now"
        for name, value in asdict(requested).items()
        if fields[name] != value and (name != "num_epochs" or settings.schedule != "constant")
    ]
    if changes:
        problem = f"You can resume the run in {folder} only with its settings. These differ: "
        hint = "Pass the run's values, or train a new run."
        if any(change.startswith("`num_epochs`") for change in changes):
            hint = f"The {settings.schedule} schedule fixes the total number of epochs. {hint}"
        raise RNNScratchError(f"{problem}{'; '.join(changes)}.", hint)
    return requested


def train(spec: SessionSpec, group: WorkerGroup | None) -> Generator[Event, None, Run]:
    """Train a new model or resume a run; yield events and return the finished run.

    Invalid arguments raise an error before the folder is created. With several workers, only
    worker 0 calls this function; the other workers call `follow`.
    """
    spec = replace(spec, runtime=_runtime(spec, group))
    with contextlib.ExitStack() as stack:
        prepare = _resume if spec.resumes else _create
        writer, warning = prepare(spec, group, stack)
        start, run, reason = writer.latest, writer.run, None
        if group is not None:
            group.broadcast((spec, start))
        request = stack.enter_context(signals.deferred())
        try:
            yield Started(str(writer.folder), start.settings, writer.session)
            for message in filter(None, (warning, *_hints(run))):
                yield Message(text=message)
            for snapshot in train_epochs(run, start.epoch, start.incomplete, request):
                if not isinstance(snapshot, Snapshot):
                    yield snapshot
                    continue
                writer.add(snapshot)
                if snapshot.epoch is not None:
                    reason = writer.early_stop_reason()
                    request.complete = reason is not None
                    yield snapshot.epoch
            writer.save()
            if reason is not None:
                yield Message(text=f"early stopping after epoch {writer.latest.epoch}: {reason}")
                if (num_tokens := len(run.dataset.train)) < SUFFICIENT_TOKENS:
                    hint = "For fewer misspelled words, use a text of 100,000 characters or more."
                    yield Message(text=f"The training text has {num_tokens:,} characters. {hint}")
            texts = [sample(run)]
        except BaseException as error:
            writer.abort(error)
            if not isinstance(error, GeneratorExit):
                yield Ended(writer.session, writer.best)
            if isinstance(error, DivergenceError) and (writer.folder / checkpoint.FILE).exists():
                hint = f"{error.hint}\nCheckpoint saved at {writer.saved.position}."
                raise DivergenceError(error.problem, hint) from error
            raise
        try:
            writer.close("finished", reason, texts)
        finally:
            yield Ended(writer.session, writer.best)
        arrays = writer.latest.arrays
        finished = Run(writer.folder, writer.history, writer.record, start.vocab, arrays)
        if group is not None:
            group.broadcast(finished)
            group.is_running = False
        return finished


def follow(group: WorkerGroup) -> Run:
    """Train as a worker other than worker 0, which reports, stores and shares the results."""
    spec, start = group.broadcast(None)
    run = prepare_run(spec.settings, spec.runtime, spec.text, start.arrays, group)
    with signals.deferred() as request:
        for _ in train_epochs(run, start.epoch, start.incomplete, request):
            pass
        finished: Run = group.broadcast(None)
    group.is_running = False
    return finished


def _runtime(spec: SessionSpec, group: WorkerGroup | None) -> Runtime:
    """Return the runtime with the worker count; by default, workers share the cores equally.

    Raises RNNScratchError if the settings do not allow this number of workers or early stopping.
    """
    settings = spec.settings
    if spec.patience and not settings.holds_out:
        raise RNNScratchError(
            f"Early stopping (`patience` {spec.patience}) requires held-out text.",
            "Use `valid_share=0.1`, or `patience=0`.",
        )
    if group is None:
        return replace(spec.runtime, workers=1)
    if settings.batch_size % group.size:
        raise RNNScratchError(
            f"`batch_size` {settings.batch_size} cannot be divided equally among {group.size} "
            "workers.",
            f"Use a multiple of {group.size}.",
        )
    return replace(spec.runtime, workers=group.size)


def _create(
    spec: SessionSpec, group: WorkerGroup | None, stack: contextlib.ExitStack
) -> tuple[RunWriter, str]:
    """Create the run folder and lock it until `stack` exits; return a writer and any warning."""
    run = prepare_run(spec.settings, spec.runtime, spec.text, group=group)
    path = None if spec.folder is None else Path(spec.folder)
    folder = run_folder.create(path, spec.runtime.backend)
    warning = stack.enter_context(files.locked(folder))
    files.sync_folder(folder.parent)
    text = dataset.describe(spec.text, run.dataset)
    number = max((record.number for _, record in read_runs(folder.parent)), default=0) + 1
    record = RunRecord(run_folder.RUN_FORMAT, spec.settings, text, number, sessions=[])
    return RunWriter(folder, record, [], None, run, spec.patience), warning


def _resume(
    spec: SessionSpec, group: WorkerGroup | None, stack: contextlib.ExitStack
) -> tuple[RunWriter, str]:
    """Lock the run folder until `stack` exits; return a writer and any warning."""
    folder, num_epochs = Path(spec.folder or ""), spec.settings.num_epochs
    warning = stack.enter_context(files.locked(folder))
    record, (saved, history) = run_folder.read(folder), checkpoint.load_latest(folder)
    settings = replace(record.settings, num_epochs=num_epochs)
    if saved is not None:
        saved = replace(saved, settings=replace(saved.settings, num_epochs=num_epochs))
        # If a session was killed between writing these two files, their text paths may differ.
        names = ("corpus", "origin", "beginning")
        location = {name: getattr(saved.text, name) for name in names}
        if (settings, replace(record.text, **location)) != (saved.settings, saved.text):
            problem = f"{folder / RUN_FILE} is damaged: it does not belong to the checkpoint"
            raise CorruptedFileError(f"{problem} next to it.", run_folder.BACKUP)
    last_epoch, arrays = (saved.epoch, saved.arrays) if saved else (0, None)
    if num_epochs <= last_epoch:
        raise RNNScratchError(
            f"Nothing left to train: the run in {folder} is already at epoch {last_epoch}.",
            "Pass a larger `num_epochs`."
            if settings.schedule == "constant"
            else "Its schedule has ended: train a new run.",
        )
    run = prepare_run(settings, spec.runtime, spec.text, arrays, group)
    text = dataset.describe(spec.text, run.dataset)
    record = replace(record, settings=settings, text=text)
    return RunWriter(folder, record, history, saved, run, spec.patience), warning


def _hints(run: RunContext) -> Iterator[str]:
    """Yield hints about the code and device used for training."""
    if run.runtime.variant == "scratch" and run.model.options.needs_deep:
        yield "These options use `deep_step` in deep.py instead of `step` in scratch.py."
    best, *_ = run.backend.machine.devices(run.settings.dtype)
    if best != run.runtime.device:
        yield f'To train on the GPU, use `device="{best}"`; no GPU has been tested yet.'
