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
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from ..contract import RNNScratchError, Team
from ..parameters import everything
from ..settings import Settings, differences, make, shown
from ..system import files, host, locks, records, signals
from ..system.files import Damaged
from ..text import corpus, dataset
from . import checkpoint, curve, growth, training
from . import folder as run_folder
from .checkpoint import NOTHING, Checkpoint
from .folder import Epoch, RunRecord, Session
from .run import Run
from .runtime import Runtime
from .setup import Setup, set_up
from .training import Diverged, Report

SHARE = 0.01  # of the time, for writing checkpoints
LEAST_OFTEN = 300.0  # seconds between two checkpoints, however long it takes to write one


def train(
    settings: Settings,
    text: corpus.Text,
    runtime: Runtime,
    folder: Path | None,
    report: Report,
    team: Team | None = None,
    patience: int = 0,
) -> Run:
    """Train a new model; invalid settings are reported before the folder is created.

    With `patience`, training ends after that number of epochs without a lower loss on held-out
    text. With a team, this is its first worker; the others call `follow`.
    """
    setup = set_up(settings, runtime, text, team=team)
    if settings.exact:
        growth.warn(setup, report)
    folder = run_folder.create(folder, runtime.backend)
    about = dataset.describe(text, setup.text)
    identity = secrets.token_hex(16)
    record = RunRecord(
        format=run_folder.RUN_FORMAT, identity=identity, settings=settings, text=about, sessions=[]
    )
    start = Checkpoint(
        vocab=setup.text.vocab,
        settings=settings,
        identity=identity,
        epoch=0,
        history=identity,
        text=about,
        runtime=setup.runtime,
        arrays=everything(setup.model),
    )
    with _lock(folder):
        try:
            checkpoint.save(folder / checkpoint.FILE, start)
            _begin(folder, record, start, setup, patience)
        except BaseException:  # no run has started: leave no folder behind
            files.remove(folder)
            raise
        return _session(folder, record, start, setup, report)


def resume(
    folder: Path,
    num_epochs: int,
    text: corpus.Text | None,
    runtime: Runtime,
    values: dict[str, Any],
    report: Report,
    team: Team | None = None,
    patience: int = 0,
) -> Run:
    """Continue a run to `num_epochs` epochs, as if it had never been interrupted.

    Only epochs, patience, backend, model, device and threads may differ; `resumable` says what else
    is an error.
    """
    with _lock(folder):
        before, record, text = resumable(folder, num_epochs, text, values, patience)
        setup = set_up(before.settings, runtime, text, before.arrays, team)
        if setup.text.vocab != before.vocab:
            raise RNNScratchError(
                f"The checkpoint in {folder} is damaged: its vocabulary is not that of its text.\n"
                "Take it from a backup, or train a new run."
            )
        before.runtime = setup.runtime
        _begin(folder, record, before, setup, patience)
        return _session(folder, record, before, setup, report)


def resumable(
    folder: Path,
    num_epochs: int,
    text: corpus.Text | None,
    values: dict[str, Any],
    patience: int = 0,
) -> tuple[Checkpoint, RunRecord, corpus.Text]:
    """Checkpoint and record of a run that is to be resumed, with its new settings, and its text.

    RNNScratchError if the text (loaded again if it is None) has changed, one of the settings in
    `values` differs from the run's, nothing is left to train, or a file is damaged.
    """
    before, record = checkpoint.latest(folder), run_folder.read(folder)
    history = run_folder.history(folder, before.epoch)
    _require_consistent(folder, before, record, history)
    settings = replace(before.settings, num_epochs=num_epochs)
    if changed := differences(settings, make({**asdict(settings), **values})):
        raise RNNScratchError(
            f"The run in {folder} can only be resumed with its own settings; these differ:\n"
            + "\n".join(changed)
            + "\nOmit these options, or train a new run."
        )
    if settings.schedule != "constant" and num_epochs != before.settings.num_epochs:
        raise RNNScratchError(
            f"The run in {folder} has --schedule {settings.schedule} to the end of epoch "
            f"{before.settings.num_epochs}, and --epochs is {num_epochs}.\nResume it with --epochs "
            f"{before.settings.num_epochs}, or train a new run."
        )
    if num_epochs <= before.epoch:
        raise RNNScratchError(
            f"The run in {folder} has {before.epoch} epochs already, and --epochs is "
            f"{num_epochs}: there is nothing left to train. Choose a larger number."
        )
    require_held_out(settings, patience)
    best = run_folder.best(history)
    if reason := _impatience(best, before.epoch, patience):
        raise RNNScratchError(
            f"The run in {folder} has ended after epoch {before.epoch}: {reason}.\n"
            "Choose a larger --patience, or --patience 0 to train all epochs."
        )
    text = dataset.same_text(record.text, text)
    record.settings = before.settings = settings
    return before, record, text


def _require_consistent(
    folder: Path, before: Checkpoint, record: RunRecord, history: list[Epoch]
) -> None:
    # Raise Damaged if record or history is not what the checkpoint, which is verified, belongs to.
    last = history[-1].digest if history else record.identity
    same = (before.identity, before.text) == (record.identity, record.text)
    same = same and not differences(before.settings, record.settings)
    for file, belongs in (
        (run_folder.RUN_FILE, same),
        (run_folder.HISTORY, last == before.history),
    ):
        if not belongs:
            raise Damaged(
                f"{folder / file} is damaged: it does not belong to the checkpoint of epoch "
                f"{before.epoch} beside it.\nTake it from a backup, or train a new run. The "
                f"checkpoint can be used: rnn-scratch predict {folder}"
            )


def require_held_out(settings: Settings, patience: int) -> None:
    """Raise RNNScratchError for a patience without held-out text."""
    if patience and not settings.holds_out:
        raise RNNScratchError(
            f"--patience {patience} needs held-out text, on which epochs are compared.\n"
            "Hold some out when the run begins, with --valid-share 0.1, or omit --patience."
        )


def follow(
    settings: Settings, text: corpus.Text, runtime: Runtime, report: Report, team: Team
) -> None:
    """Train as one of a team's workers after the first, whose session it is."""
    setup = set_up(settings, runtime, text, team=team)
    with signals.deferred() as request:
        for _ in training.parts(setup, 0, NOTHING, report, request):
            pass  # the first worker keeps the results


def conclude(folder: Path, session: Session, outcome: str, reason: str) -> None:
    """Record why a session has ended that could not do so itself, or knows less of the reason."""
    with contextlib.suppress(RNNScratchError), _lock(folder):
        record = run_folder.of_session(folder, session)
        if record.sessions[-1].outcome in ("running", "failed"):
            saved = checkpoint.latest(folder)
            _close(folder, record, saved.epoch, outcome=outcome, reason=reason)


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
    folder: Path, record: RunRecord, before: Checkpoint, setup: Setup, report: Report
) -> Run:
    # Train from a checkpoint to the last epoch; the record is completed even after an error.
    due, reason, patience = 0.0, None, record.sessions[-1].patience
    best = run_folder.best(run_folder.history(folder))
    unsaved: dict[str, Checkpoint] = {}  # by the name of the file
    with signals.deferred() as request:
        latest = before
        try:
            report.start(folder, before.settings, record.sessions[-1])
            parts = training.parts(setup, before.epoch, before.incomplete, report, request)
            for incomplete, arrays, epoch in parts:
                latest = replace(latest, arrays=arrays, incomplete=incomplete)
                unsaved[checkpoint.FILE] = latest
                files.require_in_place(folder)
                if epoch is not None:
                    epoch = run_folder.sealed(epoch, latest.history)
                    run_folder.append(folder, epoch)
                    latest.epoch, latest.incomplete = epoch.epoch, NOTHING
                    latest.history = epoch.digest
                    best = run_folder.best((best, epoch))
                    if best is epoch:
                        unsaved[checkpoint.BEST] = latest
                    reason = _impatience(best, epoch.epoch, patience)
                    request.enough = reason is not None
                if time.perf_counter() >= due:
                    due, before = _save(folder, unsaved), latest
                if epoch is not None:
                    report.epoch(epoch)
            if unsaved:
                _save(folder, unsaved)
            if reason is not None:
                report.say(f"training ends after epoch {latest.epoch}: {reason}")
            predictions = training.predictions(setup)
        except BaseException as error:
            report.stop()
            outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            problem = str(error) if isinstance(error, RNNScratchError) else shown(error)
            # On a full disk, or without the folder, this fails as well; the first error is the one
            # to report.
            with contextlib.suppress(RNNScratchError):
                if unsaved:
                    _save(folder, unsaved)
            saved = before if unsaved else latest
            with contextlib.suppress(RNNScratchError):
                _close(folder, record, saved.epoch, outcome=outcome, reason=problem)
            if isinstance(error, Diverged):
                kept = f"The checkpoint of epoch {latest.epoch} is kept."
                raise Diverged(f"{error}\n{kept}") from error
            raise
        report.stop()
        end = {"outcome": "finished", "reason": reason, "predictions": predictions}
        history = _close(folder, record, latest.epoch, **end)
    run = Run(folder, history, record, setup.text.vocab, latest.arrays)
    report.finish(run)
    return run


def _impatience(best: Epoch | None, last: int, patience: int) -> str | None:
    # Why training ends after epoch `last`, if it does.
    if best is None or not 0 < patience <= last - best.epoch:
        return None
    return f"{last - best.epoch} epochs no better than epoch {best.epoch} (--patience {patience})"


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


def _close(folder: Path, record: RunRecord, epoch: int, **end: Any) -> list[Epoch]:
    # Complete the record with these fields of its last session, and draw the curve.
    session = replace(record.sessions[-1], ended=_now(), to_epoch=epoch, **end)
    record.sessions[-1] = session
    records.write(folder / run_folder.RUN_FILE, record)
    history = run_folder.history(folder)
    if history:
        picture = curve.picture({session.runtime.backend: history})
        files.replace(folder / run_folder.CURVE, picture)
    return history


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone().replace(microsecond=0)
