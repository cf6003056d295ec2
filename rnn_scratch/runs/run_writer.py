"""Write a run's files during a session: record, history, checkpoints and curve.

The history and a checkpoint are written at the end and at least every 5 minutes, or more often if
writing takes less than 1% of the time. The history is synced to disk before the checkpoint. After a
crash or power cut, training resumes from the checkpoint, and later history lines are dropped.
"""

import contextlib
import datetime
import os
import time
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ..errors import RNNScratchError, format_value
from ..parameters import trained_arrays
from ..system import files, host, records
from ..training.events import EMPTY_EPOCH, Epoch, Session
from ..training.loop import Snapshot
from ..training.setup import RunContext
from . import checkpoint, curve, run_folder
from .checkpoint import Checkpoint
from .run_folder import CURVE, HISTORY, RUN_FILE, RunRecord

CHECKPOINT_TIME_FRACTION = 0.01  # target fraction of training time spent on checkpoints
MAX_CHECKPOINT_INTERVAL = 300.0  # seconds


class RunWriter:
    """A writer for a run's files during a session; the session must hold the folder's lock."""

    def __init__(
        self,
        folder: Path,
        record: RunRecord,
        history: list[Epoch],
        saved: Checkpoint | None,
        run: RunContext,
        patience: int,
    ) -> None:
        """Start a session from `saved` or, if it is None, from the initial parameters."""
        if saved is None:
            arrays, vocab = trained_arrays(run.model), run.dataset.vocab
            saved = Checkpoint(vocab, record.settings, 0, record.text, run.runtime, arrays=arrays)
        self.saved = saved  # latest checkpoint on disk
        self.latest = replace(saved, runtime=run.runtime, text=record.text)
        self.folder, self.record, self.history, self.run = folder, record, history, run
        self.best = run_folder.find_best_epoch(history)
        session = Session(
            started=_now(),
            process=os.getpid(),
            from_epoch=saved.epoch,
            runtime=run.runtime,
            machine=host.describe(),
            environment=run.backend.machine.versions(),
            outcome="running",
            patience=patience,
        )
        record.sessions.append(session)
        # Write the record first so that the run can be resumed if the process is killed afterwards.
        records.write(folder / RUN_FILE, record)
        self.save()

    @property
    def session(self) -> Session:
        """This session's record."""
        return self.record.sessions[-1]

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot's results and its epoch, if complete; save if a checkpoint is due."""
        self.latest = replace(self.latest, arrays=snapshot.arrays, incomplete=snapshot.partial)
        if (epoch := snapshot.epoch) is not None:
            self.history.append(epoch)
            self.latest = replace(self.latest, epoch=epoch.epoch, incomplete=EMPTY_EPOCH)
            self.best = run_folder.find_best_epoch((self.best, epoch))
            if self.best is epoch:
                params = {name: snapshot.arrays[name] for name in self.run.model.options.shapes()}
                self.latest = replace(self.latest, best_epoch=epoch.epoch, best=params)
        if time.perf_counter() >= self.due:
            self.save()

    def early_stop_reason(self) -> str | None:
        """Return the reason for stopping after the latest epoch, or None to continue."""
        epoch, patience = self.latest.epoch, self.session.patience
        if self.best is None or not 0 < patience <= epoch - self.best.epoch:
            return None
        return f"no improvement since epoch {self.best.epoch} (`patience` {patience})"

    def save(self) -> None:
        """Save the history and then a checkpoint, unless the state is unchanged."""
        if self.latest is self.saved:
            return
        start, lines = time.perf_counter(), msgspec.json.Encoder().encode_lines(self.history)
        files.replace(self.folder / HISTORY, lines)
        position = {"history_size": len(lines), "history_sha256": sha256(lines).hexdigest()}
        self.latest = replace(self.latest, **position)
        checkpoint.save(self.folder / checkpoint.FILE, self.latest)
        self.saved = self.latest
        end = time.perf_counter()
        # Earliest time for the next periodic checkpoint.
        self.due = end + min((end - start) / CHECKPOINT_TIME_FRACTION, MAX_CHECKPOINT_INTERVAL)

    def abort(self, error: BaseException) -> None:
        """Save the latest state, unless nothing was trained, and record the session's error."""
        is_interrupt = isinstance(error, (KeyboardInterrupt, GeneratorExit))
        problem = str(error) if isinstance(error, RNNScratchError) else format_value(error)
        # If the disk is full, these writes also fail; only the first error should be reported.
        with contextlib.suppress(Exception):
            self.save()
            if not self.saved.epoch and not self.saved.incomplete.losses:
                (self.folder / checkpoint.FILE).unlink()
        with contextlib.suppress(Exception):
            self.close("interrupted" if is_interrupt else "failed", problem)

    def close(self, outcome: str, reason: str | None, predictions: list[str] | None = None) -> None:
        """Complete the session's record and plot the curve."""
        end = {"ended": _now(), "to_epoch": self.saved.epoch, "predictions": predictions or []}
        self.record.sessions[-1] = replace(self.session, outcome=outcome, reason=reason, **end)
        records.write(self.folder / RUN_FILE, self.record)
        if self.history:
            picture = curve.picture({self.session.runtime.backend: self.history})
            files.replace(self.folder / CURVE, picture)


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone().replace(microsecond=0)
