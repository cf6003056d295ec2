"""A run's folder: the record, the history, the curve and the checkpoint.

Record and checkpoints have the run's identity, which is drawn when it begins. Each line of the
history has a digest of itself, of the lines before it and of the identity, and a checkpoint that of
the last line by then: whatever is exchanged or changed is noticed.

``run.json``                settings, text, and each session: where, when and with what result
``history.jsonl``           a line of JSON per epoch, written when it ends
``perplexity.png``          the curve
``checkpoint.safetensors``  the latest state of the training; see `runs.sessions` for how often
``best.safetensors``        after the epoch with the lowest loss on held-out text, if there is some
"""

import contextlib
import datetime
import hashlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from ..errors import RNNScratchError, shown
from ..settings import Settings
from ..system import files, records
from ..system.files import Damaged
from ..system.host import Machine
from ..system.records import Count, Line, Record
from ..text.dataset import TextRecord
from .runtime import Runtime

RUN_FILE, HISTORY, CURVE = "run.json", "history.jsonl", "perplexity.png"
RUN_FORMAT = 4
LARGEST_HISTORY = 2**29  # bytes; with a million epochs, the most, it has fewer
PARENT = Path("runs")

AboveZero = Annotated[float, Meta(gt=0)]
Time = Annotated[datetime.datetime, Meta(tz=True)]
LastEpoch = Annotated[int, Meta(ge=0, le=2**31)]  # that is complete; 0: none


class Epoch(Record, tag=True):
    """One epoch of training, a line of the history; losses are means in nats per character."""

    epoch: Count
    loss: float
    perplexity: AboveZero | None  # None where it is too large for a float
    valid_loss: float | None  # None without held-out text
    valid_perplexity: AboveZero | None
    tokens: Count
    seconds: Annotated[float, Meta(ge=0)]
    backend: Line
    sample: str | None  # generated text, every tenth epoch
    digest: Line = ""  # in the history, as `append` says


class Session(Record):
    """One session of training: where, when and with what result."""

    started: Time
    process: Count  # its number
    from_epoch: LastEpoch
    runtime: Runtime  # with the device and the number of threads in use
    machine: Machine
    environment: dict[str, Line]  # versions of the framework and its libraries
    # It stays "running" if the process is killed.
    outcome: Literal["running", "finished", "interrupted", "failed"]
    engine: Line | None = None  # of several workers
    patience: LastEpoch = 0  # epochs without improvement after which it ends; 0: none ends it
    reason: str | None = None  # why it ended before its last epoch
    ended: Time | None = None
    to_epoch: LastEpoch | None = None
    predictions: list[str] = []  # continuations of two prefixes, at the end

    def __post_init__(self) -> None:
        """Refuse a time that other time zones may not have."""
        if not 1 < self.started.year < 9999:
            raise ValueError(f"a session of the year {self.started.year}")


class RunRecord(Record, kw_only=True):
    """The record of a run."""

    format: int
    identity: Line
    settings: Settings
    text: TextRecord
    sessions: Annotated[list[Session], Meta(min_length=1)]


def create(folder: Path | None, backend: str) -> Path:
    """Create the folder of a new run: this one, or by default a dated one under ``runs/``."""
    try:
        if folder is None:
            folder = dated(backend)
        else:
            folder.mkdir(parents=True)
        files.sync(folder.parent)
        return folder
    except FileExistsError as error:
        raise RNNScratchError(
            f"The run folder {folder or PARENT} exists already.",
            "Choose another with `--run`, or resume the run in it:\n"
            f"rnn-scratch train --resume {folder or PARENT} --epochs N",
        ) from error
    except (OSError, ValueError) as error:
        raise RNNScratchError(
            f"The run folder {folder or PARENT} could not be created: "
            f"{getattr(error, 'strerror', None) or error}."
        ) from error


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
    """The record of a run; Damaged if it is damaged, RNNScratchError if there is none."""
    absence = (
        f"{folder} is not the folder of a run: it has no {RUN_FILE}.\n"
        "`rnn-scratch runs` lists the runs."
    )
    try:
        return records.read(folder / RUN_FILE, RunRecord, RUN_FORMAT, absence)
    except Damaged as error:
        raise damaged(folder, str(error)) from error


def damaged(folder: Path, problem: str) -> Damaged:
    """The error for a problem with a run's record or history, and what to do."""
    return Damaged(
        f"{problem}\nTake it from a backup, or train a new run. The checkpoint is another file: "
        f"rnn-scratch predict {folder}"
    )


def of_session(folder: Path, session: Session) -> RunRecord:
    """The record of a run whose last session is this one.

    RNNScratchError if there is another by now, or another folder at its path.
    """
    record = read(folder)
    last = record.sessions[-1]
    if (last.started, last.process) != (session.started, session.process):
        raise RNNScratchError(f"The run in {folder} is another one, or has another session.")
    return record


def history(folder: Path, last: int | None = None) -> list[Epoch]:
    """The epochs recorded so far, or those up to epoch `last`.

    A last line that a kill has left incomplete is omitted. Raises Damaged if another one is no
    epoch, one that does not come after the epochs before it, or one of another run; this cannot be
    verified without the run's record.
    """
    path = folder / HISTORY
    try:
        # As bytes: a kill may split a character, and in text other characters than \n end lines.
        lines = files.read(path, LARGEST_HISTORY).split(b"\n")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise Damaged(
            f"{path} could not be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    epochs: list[Epoch] = []
    before, digest = 0, identity(folder)
    for number, line in enumerate(lines, 1):
        if before == last:
            break
        try:
            epoch = msgspec.json.decode(line, type=Epoch)
            if epoch.epoch <= before:
                raise ValueError(f"epoch {epoch.epoch} after epoch {before}")
            if digest and sealed(epoch, digest) != epoch:
                raise ValueError("it, or what was before it, is not what was written")
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # empty, after the end of the last line, or incomplete
                break
            problem = f"Line {number} of {path} is damaged: {shown(str(error), 200)}."
            raise damaged(folder, problem) from error
        before, digest = epoch.epoch, epoch.digest
        if last is None or before <= last:
            epochs.append(epoch)
    return epochs


def best(epochs: Iterable[Epoch | None]) -> Epoch | None:
    """The first epoch with the lowest loss on held-out text; None if no epoch has such a loss."""
    known = [(each.valid_loss, each) for each in epochs if each and each.valid_loss is not None]
    return min(known, key=lambda each: each[0])[1] if known else None


def identity(folder: Path) -> str:
    """The identity of a run; an empty string if it is unknown."""
    with contextlib.suppress(RNNScratchError):
        return read(folder).identity
    return ""


def sealed(epoch: Epoch, before: str) -> Epoch:
    """The epoch with its digest, after that of the line before it, or after the run's identity."""
    content = before.encode() + records.line(replace(epoch, digest=""))
    return replace(epoch, digest=hashlib.sha256(content).hexdigest())


def append(folder: Path, epoch: Epoch) -> None:
    """Add a sealed epoch to the history; it is on the disk for certain after `files.sync`."""
    files.append(folder / HISTORY, records.line(epoch))


def write_history(folder: Path, epochs: Iterable[Epoch]) -> None:
    """Write a history of these sealed epochs."""
    files.replace(folder / HISTORY, b"".join(map(records.line, epochs)))


def repair_history(folder: Path, epoch: int) -> None:
    """Let the history end with this epoch, the checkpoint's.

    Later lines are removed, whatever they are, and incomplete files that a kill has left behind.
    """
    files.delete_temporary(folder)
    write_history(folder, history(folder, epoch))
