"""Sessions of a run: the first one, those that resume it, and the record of each."""

import contextlib
import dataclasses
import datetime
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from ..contract import Arrays, RNNScratchError
from ..settings import Settings, differences, make
from ..system import host
from ..text import corpus, dataset
from . import checkpoint, curve, training
from . import folder as run_folder
from .checkpoint import Checkpoint
from .folder import Epoch
from .setup import Place, Setup, set_up
from .training import Diverged, Report


class Run(NamedTuple):
    """A finished run: its folder and its results."""

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
    """Train a new model; invalid settings are reported before the folder is created."""
    setup = set_up(settings, place, text)
    folder = run_folder.create(folder, place.backend)
    record = {
        "format": run_folder.FORMAT,
        "settings": dataclasses.asdict(settings),
        "text": dataset.origin(text, setup.text),
        "sessions": [],
    }
    model = setup.model
    start = Checkpoint(model.to_arrays(model.params), setup.text.vocab, settings, 0, text.sha256)
    try:
        checkpoint.save(folder / checkpoint.FILE, start)
        _begin(folder, record, start, setup)
    except BaseException:  # no run has started: leave no folder behind
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _session(folder, record, start, setup, report)


def resume(
    folder: Path,
    num_epochs: int,
    text: corpus.Text | None,
    place: Place,
    values: dict[str, Any],
    report: Report,
) -> Run:
    """Continue a run to `num_epochs` epochs, as if it had never been interrupted.

    Only epochs, backend, model, device and threads may differ: RNNScratchError if the text (loaded
    again if it is None) has changed, or one of these `settings` differs from the run's.
    """
    record = run_folder.read(folder)
    before = checkpoint.load(checkpoint.find(folder))
    settings = dataclasses.replace(before.settings, num_epochs=num_epochs)
    if changed := differences(settings, make({**dataclasses.asdict(settings), **values})):
        raise RNNScratchError(
            f"The run in {folder} can only be resumed with its own settings; these differ:\n"
            + "\n".join(changed)
            + "\nOmit these options, or train a new run."
        )
    if num_epochs <= before.epoch:
        raise RNNScratchError(
            f"The run in {folder} has {before.epoch} epochs already, and --epochs is {num_epochs}: "
            "there is nothing left to train. Choose a larger number."
        )
    text = dataset.same_text(record, text, report.say)
    setup = set_up(settings, place, text, before.arrays)
    if (setup.text.vocab, text.sha256) != (before.vocab, before.text_sha256):
        raise RNNScratchError(
            f"The checkpoint in {folder} was trained on another text than the run's record says.\n"
            "Restore the checkpoint that belongs to the run, or train a new run."
        )
    run_folder.cut_history(folder, before.epoch)
    record["settings"] = dataclasses.asdict(settings)
    before = before._replace(settings=settings)
    _begin(folder, record, before, setup)
    return _session(folder, record, before, setup, report)


def _begin(folder: Path, record: dict[str, Any], before: Checkpoint, setup: Setup) -> None:
    # Add a session to the record.
    session = {
        "started": _now(),
        "from_epoch": before.epoch,
        **setup.place._asdict(),
        "machine": host.describe(),
        "environment": setup.backend.machine.environment(),
        "outcome": "running",  # it stays so if the process is killed
    }
    record["sessions"].append(session)
    run_folder.write(folder, record)


def _session(
    folder: Path,
    record: dict[str, Any],
    before: Checkpoint,
    setup: Setup,
    report: Report,
) -> Run:
    # Train from a checkpoint to the last epoch; the record is completed even after an error.
    settings = before.settings
    try:
        report.start(folder, settings, record["sessions"][-1], before.epoch + 1)
        for epoch, arrays, _ in training.epochs(setup, before.epoch, report):
            # History first: if the process is killed between the two, the history has one line too
            # many, and resuming the run removes it.
            run_folder.append(folder, epoch)
            before = before._replace(arrays=arrays, epoch=epoch.epoch)
            checkpoint.save(folder / checkpoint.FILE, before)
            report.epoch(epoch)
        outcome = {
            "outcome": "finished",
            "predictions": training.predictions(setup),
        }
    except BaseException as error:
        report.stop()
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = str(error) if isinstance(error, RNNScratchError) else repr(error)
        outcome = {"outcome": "interrupted" if interrupted else "failed", "reason": reason}
        # On a full disk this fails as well, and the first error is the one to report.
        with contextlib.suppress(RNNScratchError):
            latest = checkpoint.load(folder / checkpoint.FILE)  # `before` may not be saved yet
            _close(folder, record, latest.epoch, outcome)
        if isinstance(error, Diverged):
            kept = f"The checkpoint of epoch {before.epoch} is kept."
            raise Diverged(f"{error}\n{kept}") from error
        raise
    report.stop()
    history = _close(folder, record, before.epoch, outcome)
    return Run(folder, history, record, setup.text.vocab, before.arrays)


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
