"""Sessions of a run: the first one and those that go on, with all that is kept of them."""

import contextlib
import dataclasses
import datetime
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from .. import initial, registry
from ..contract import Arrays, Backend, Model, Options, RNNScratchError
from ..settings import Settings, differences, make
from ..system import host
from ..text import corpus, dataset
from ..text.dataset import Prepared
from . import checkpoint, curve, training
from . import folder as run_folder
from .checkpoint import Checkpoint
from .folder import Epoch
from .training import Report


class Place(NamedTuple):
    """Where a run computes: what may change between sessions without changing the mathematics."""

    backend: str = "torch"
    model: str = "scratch"
    device: str = "auto"
    threads: int | None = None  # None: as many as the framework takes by itself
    eager: bool = False  # run uncompiled what is compiled


class Run(NamedTuple):
    """A run that has ended: where it is, and what came out."""

    folder: Path
    history: list[Epoch]
    record: dict[str, Any]
    vocab: list[str]
    arrays: Arrays

    @property
    def perplexity(self) -> float | None:
        """Perplexity of the last epoch on the text it trained on."""
        return self.history[-1].perplexity


def train(
    settings: Settings, text: corpus.Text, place: Place, folder: Path | None, report: Report
) -> Run:
    """Train a new model; every fault of the user's is found before the folder is made."""
    prepared = dataset.prepare(text, settings)
    backend, place = ready(place, settings)
    arrays = starting(prepared, settings)
    model = build(backend, place, arrays, settings)
    folder = run_folder.create(folder, place.backend)
    record = {
        "format": 1,
        "settings": dataclasses.asdict(settings),
        "text": dataset.origin(text, prepared),
        "sessions": [],
    }
    start = Checkpoint(model.to_arrays(model.params), prepared.vocab, settings, 0, text.sha256)
    try:
        checkpoint.save(folder / checkpoint.FILE, start)
        _begin(folder, record, start, backend, place)
    except BaseException:  # nothing has begun: no folder is left that is not a run's
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _session(folder, record, start, prepared, backend, model, place, report)


def resume(
    folder: Path,
    num_epochs: int,
    text: corpus.Text | None,
    place: Place,
    asked: dict[str, Any],
    report: Report,
) -> Run:
    """Go on with a run to `num_epochs` epochs, as if it had never stopped.

    Only epochs, backend, model, device and threads may differ: RNNScratchError if the text, found
    again when it is None, is another, or a setting in `asked` is another than the run's.
    """
    record = run_folder.read(folder)
    before = checkpoint.load(checkpoint.find(folder))
    settings = dataclasses.replace(before.settings, num_epochs=num_epochs)
    if changed := differences(settings, make({**dataclasses.asdict(settings), **asked})):
        raise RNNScratchError(
            f"The run in {folder} goes on with the settings it has; asked for were others:\n"
            + "\n".join(changed)
            + "\nLeave these options out, or train a new run."
        )
    if num_epochs <= before.epoch:
        raise RNNScratchError(
            f"The run in {folder} has {before.epoch} epochs already; --epochs {num_epochs} asks "
            "for no more. Give a larger number."
        )
    text = dataset.same_text(record, text, report.say)
    prepared = dataset.prepare(text, settings)
    if (prepared.vocab, text.sha256) != (before.vocab, before.text_sha256):
        raise RNNScratchError(f"The checkpoint in {folder} comes from another text than its run.")
    backend, place = ready(place, settings)
    model = build(backend, place, before.arrays, settings)
    run_folder.cut_history(folder, before.epoch)
    record["settings"] = dataclasses.asdict(settings)
    before = before._replace(settings=settings)
    _begin(folder, record, before, backend, place)
    return _session(folder, record, before, prepared, backend, model, place, report)


def ready(place: Place, settings: Settings) -> tuple[Backend, Place]:
    """The backend, set to what the place asks for, and the place with what that came to."""
    # Threads first: TensorFlow fixes their number when it first looks for devices.
    backend, threads = registry.start(place.backend, place.threads)
    backend.set_eager(place.eager)
    device = registry.choose_device(backend, place.device, settings.dtype)
    return backend, place._replace(device=device, threads=threads)


def starting(prepared: Prepared, settings: Settings) -> Arrays:
    """The parameters to start from, in float64."""
    return initial.initial(
        len(prepared.vocab), settings.num_hiddens, settings.sigma, settings.seed,
        settings.embedding,
    )  # fmt: skip


def build(backend: Backend, place: Place, arrays: Arrays, settings: Settings) -> Model:
    """The model, from these parameters, where the place says."""
    options = Options(settings.activation, settings.dtype, place.device)
    return registry.build(backend, place.model, arrays, options)


def _begin(
    folder: Path, record: dict[str, Any], before: Checkpoint, backend: Backend, place: Place
) -> None:
    # A session in the record, that says where and with what it computes.
    session = {
        "started": _now(),
        "from_epoch": before.epoch,
        **place._asdict(),
        "machine": host.describe(),
        "environment": backend.environment(),
        "outcome": "running",  # what a kill leaves
    }
    record["sessions"].append(session)
    run_folder.write(folder, record)


def _session(
    folder: Path,
    record: dict[str, Any],
    before: Checkpoint,
    prepared: Prepared,
    backend: Backend,
    model: Model,
    place: Place,
    report: Report,
) -> Run:
    # From one checkpoint on to the last epoch, with the record kept whatever happens.
    settings = before.settings
    try:
        report.start(folder, settings, record["sessions"][-1], before.epoch + 1)
        trained = training.epochs(backend, place.backend, model, before, prepared, settings, report)
        for epoch, arrays in trained:
            # History first: a kill between the two leaves one line too many, which is cut.
            run_folder.append(folder, epoch)
            before = before._replace(arrays=arrays, epoch=epoch.epoch)
            checkpoint.save(folder / checkpoint.FILE, before)
            report.epoch(epoch)
        outcome = {
            "outcome": "finished",
            "predictions": training.predictions(backend, model, prepared.vocab, prepared.train),
        }
    except BaseException as error:
        report.stop()
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = str(error) if isinstance(error, RNNScratchError) else repr(error)
        outcome = {"outcome": "interrupted" if interrupted else "failed", "reason": reason}
        with contextlib.suppress(RNNScratchError):  # a full disk, say: the first error is told
            kept = checkpoint.load(folder / checkpoint.FILE)  # it may have stopped in writing one
            _close(folder, record, kept.epoch, outcome)
        raise
    report.stop()
    history = _close(folder, record, before.epoch, outcome)
    return Run(folder, history, record, prepared.vocab, before.arrays)


def _close(
    folder: Path, record: dict[str, Any], epoch: int, outcome: dict[str, Any]
) -> list[Epoch]:
    session = record["sessions"][-1]
    session |= {"ended": _now(), "to_epoch": epoch, **outcome}
    run_folder.write(folder, record)
    history = run_folder.history(folder)
    if history:
        curve.perplexity_curve(folder / run_folder.CURVE, {session["backend"]: history})
    return history


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
