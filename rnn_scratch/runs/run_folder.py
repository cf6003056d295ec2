"""A run's folder: the record, the history, the curve and the checkpoint.

``run.json``                settings, text, and each session: where, when and with what result
``history.jsonl``           a line of JSON per epoch, written when it ends
``perplexity.png``          the curve
``checkpoint.safetensors``  the latest state of the training; see `runs.sessions` for how often

Record and checkpoint have the run's identity, which is drawn when it begins. A checkpoint is the
authority on the run: it has the length and the SHA-256 of the history up to its epoch, and lines
after these do not count.
"""

import contextlib
import datetime
import hashlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ..errors import RNNScratchError, shown
from ..settings import Settings
from ..system import files, records
from ..system.files import Damaged
from ..system.host import Machine
from ..system.records import Count, Line, Record, Versions
from ..text.dataset import TextRecord
from .runtime import Runtime

RUN_FILE, HISTORY, CURVE = "run.json", "history.jsonl", "perplexity.png"
RUN_FORMAT = 6
LAST_NUMBER = 10**9 - 1  # of a run
LONGEST_LINE = 2**13  # bytes of a line of the history: a sample of 50 characters takes 600 at most
PARENT = Path("runs")

AboveZero = Annotated[float, Meta(gt=0)]
Time = Annotated[datetime.datetime, Meta(tz=True)]
LastEpoch = Annotated[int, Meta(ge=0, le=2**31)]  # that is complete; 0: none


class Mark(NamedTuple):
    """The beginning of a history: its length in bytes, and the SHA-256 of these bytes."""

    size: Annotated[int, Meta(ge=0)] = 0
    sha256: Line = hashlib.sha256().hexdigest()


class Epoch(Record, tag=True):
    """One epoch of training, a line of the history; losses are means in nats per character."""

    epoch: Count
    loss: float
    perplexity: AboveZero | None  #: None where it is too large for a float
    valid_loss: float | None  #: None without held-out text
    valid_perplexity: AboveZero | None
    tokens: Count
    seconds: Annotated[float, Meta(ge=0)]
    backend: Line
    sample: str | None  #: generated text, every tenth epoch


class Session(Record):
    """One session of training: where, when and with what result."""

    started: Time
    process: Count  # its number
    from_epoch: LastEpoch
    runtime: Runtime  # with the device and the number of threads in use
    machine: Machine
    environment: Versions  # versions of the framework and its libraries
    # It stays "running" if the process is killed.
    outcome: Literal["running", "finished", "interrupted", "failed"]
    engine: Line | None = None  # of several workers
    patience: LastEpoch = 0  # epochs without improvement after which it ends; 0: none ends it
    reason: str | None = None  # why it ended before its last epoch
    ended: Time | None = None
    to_epoch: LastEpoch | None = None
    predictions: Annotated[
        list[str], Meta(max_length=2)
    ] = []  # continuations of two prefixes, at the end


class RunRecord(Record):
    """The record of a run."""

    format: int
    identity: Line
    settings: Settings
    text: TextRecord
    number: Annotated[int, Meta(ge=1, le=LAST_NUMBER)]  # among the runs beside it
    sessions: Annotated[list[Session], Meta(min_length=1)]


def create(folder: Path | None, backend: str) -> Path:
    """Create the folder of a new run: this one, or by default a dated one under ``runs/``."""
    try:
        if folder is None:
            return dated(backend)
        folder.mkdir(parents=True)
    except OSError as error:
        if folder is not None and folder.is_dir():
            raise RNNScratchError(
                f"The run folder {folder} exists already.",
                "Choose another with `--run`, or resume the run in it:\n"
                f"rnn-scratch train --resume {folder} --epochs N",
            ) from error
        raise RNNScratchError(
            f"The run folder {folder or PARENT} could not be created: {error.strerror}."
        ) from error
    return folder


def dated(label: str) -> Path:
    """Create a folder under ``runs/`` whose name is the time and this label."""
    PARENT.mkdir(exist_ok=True)
    stamp = f"{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{label}"
    for number in itertools.count(1):
        folder = PARENT / (stamp if number == 1 else f"{stamp}-{number}")
        # Created without a check whether it exists: another run may start in the same second.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def read(folder: Path) -> RunRecord:
    """Return the record of a run; raise Damaged or, if there is none, RNNScratchError."""
    absence = RNNScratchError(
        f"{folder} is not the folder of a run: it has no {RUN_FILE}.",
        "`rnn-scratch runs` lists the runs.",
    )
    try:
        return records.read(folder / RUN_FILE, RunRecord, RUN_FORMAT, absence)
    except Damaged as error:
        raise damaged(folder, error.problem) from error


def damaged(folder: Path, problem: str) -> Damaged:
    """Return the error for a problem with a run's record or history, with what to do."""
    return Damaged(
        problem,
        "Take it from a backup, or train a new run. The checkpoint is another file: "
        f"rnn-scratch predict {folder}",
    )


class History:
    """The epochs of a run, and the length and SHA-256 of the lines that they are in the file."""

    def __init__(self) -> None:
        """There is no epoch yet."""
        self.epochs: list[Epoch] = []
        self.size, self._sha256 = 0, hashlib.sha256()

    def add(self, epoch: Epoch, line: bytes) -> None:
        """Add an epoch after the others."""
        self.epochs.append(epoch)
        self.size += len(line)
        self._sha256.update(line)

    @property
    def mark(self) -> Mark:
        """The length and the SHA-256 of all lines."""
        return Mark(self.size, self._sha256.hexdigest())


def read_history(folder: Path, mark: Mark | None = None) -> History:
    """Read a run's history line by line, up to the mark of a checkpoint.

    Without a mark, all of it is read, but for a last line that a kill has left incomplete. Raises
    Damaged if a line is no epoch, or if the history does not belong to the checkpoint.
    """
    path, history = folder / HISTORY, History()
    try:
        with files.opened(path) as file:
            while mark is None or history.size < mark.size:
                line = file.readline(LONGEST_LINE)
                if not line.endswith(b"\n"):
                    break
                history.add(msgspec.json.decode(line, type=Epoch), line)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise files.unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        number = len(history.epochs) + 1
        problem = f"Line {number} of {path} is damaged: {shown(str(error), 200)}."
        raise damaged(folder, problem) from error
    if mark not in (None, history.mark):
        raise damaged(folder, f"{path} is damaged: it does not belong to the checkpoint beside it.")
    return history


def history(folder: Path) -> list[Epoch]:
    """Return the epochs in a run's history, as `read_history` does without a mark."""
    return read_history(folder).epochs


def best(epochs: Iterable[Epoch | None]) -> Epoch | None:
    """Return the first epoch with the lowest loss on held-out text; None if no epoch has one."""
    losses = [(row.valid_loss, row) for row in epochs if row and row.valid_loss is not None]
    return min(losses, key=lambda pair: pair[0])[1] if losses else None
