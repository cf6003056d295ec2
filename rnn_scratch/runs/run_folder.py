"""A run folder: record, history, curve and checkpoint.

``run.json``                settings, text, and each session's machine, time and result
``history.jsonl``           one line of JSON per epoch
``perplexity.png``          the curve
``checkpoint.safetensors``  the latest training state, saved regularly by `run_writer`

The checkpoint is authoritative: it contains the length and SHA-256 of the history up to its
epoch, and later lines are ignored.
"""

import contextlib
import datetime
import hashlib
import io
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ..errors import RNNScratchError, format_value
from ..settings import Settings
from ..system import files, records
from ..system.files import CorruptedFileError
from ..system.records import Record
from ..text import books
from ..text.dataset import TextRecord
from ..training.events import Epoch as Epoch
from ..training.events import Session as Session

RUN_FILE, HISTORY, CURVE = "run.json", "history.jsonl", "perplexity.png"
RUN_FORMAT = 8
MAX_HISTORY_BYTES = 2**28  # a line with a 50-character sample takes at most 600 bytes
PARENT = Path("runs")
BACKUP = "Restore it from a backup. (`rnn-scratch predict` needs only the checkpoint.)"


class RunRecord(Record):
    """A run's record."""

    format: Annotated[int, Meta(ge=RUN_FORMAT, le=RUN_FORMAT)]  #: file format number
    settings: Settings  #: the run's settings
    text: TextRecord  #: the text's location and digest
    number: Annotated[int, Meta(ge=1)]  #: the run's number, usable as a short name
    sessions: Annotated[list[Session], Meta(min_length=1)]  #: all sessions, in order


def create(folder: Path | None, backend: str) -> Path:
    """Create the folder for a new run: `folder`, or a dated folder under ``runs/``."""
    if folder is not None and os.path.isdir(folder):
        if all(path.name.endswith((files.LOCK, files.TEMPORARY)) for path in folder.iterdir()):
            return folder  # left by a killed command; contains no run
        raise RNNScratchError(
            f"The run folder {folder} already exists.",
            "Choose another folder with `run`, or resume the existing run:\n"
            f"rnn-scratch train --resume {folder} --num-epochs N",
        )
    try:
        if folder is None:
            return create_dated(backend)
        folder.mkdir(parents=True)
        return folder
    except OSError as error:
        problem = f"The run folder {folder or PARENT} could not be created: {error.strerror}."
        hint = "Choose a folder that you can write to: rnn-scratch train --output FOLDER"
        raise RNNScratchError(problem, hint) from error


def create_dated(label: str) -> Path:
    """Create a folder under ``runs/``, named after the current time and a label."""
    PARENT.mkdir(exist_ok=True)
    stamp = f"{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{label}"
    for count in itertools.count(1):
        folder = PARENT / (stamp if count == 1 else f"{stamp}-{count}")
        with contextlib.suppress(FileExistsError):  # another run was started in the same second
            folder.mkdir()
            return folder
    raise AssertionError


def read(folder: Path) -> RunRecord:
    """Return a run's record; raise RNNScratchError if missing, or CorruptedFileError if invalid."""
    missing_error = RNNScratchError(
        f"{folder} is not the folder of a run: it has no {RUN_FILE}.",
        "`rnn-scratch runs` lists the runs.",
    )
    return records.read(folder / RUN_FILE, RunRecord, missing_error)


def read_history(folder: Path, size: int | None = None, sha256: str | None = None) -> list[Epoch]:
    """Return the epochs in a run's history; raise CorruptedFileError if the history is damaged.

    `size` and `sha256` are the length and SHA-256 of the history up to a checkpoint. By
    default, all complete lines are read.
    """
    path, epochs = folder / HISTORY, list[Epoch]()
    missing_error = CorruptedFileError(f"{path} does not exist.", BACKUP)
    data = files.read(path, MAX_HISTORY_BYTES, missing_error) if size or path.exists() else b""
    data = data.replace(b"\r\n", b"\n")[:size]  # Git may have changed the line endings
    try:
        for line in io.BytesIO(data[: data.rfind(b"\n") + 1]):  # yields one line at a time
            epochs.append(msgspec.json.decode(line, type=Epoch))
    except (ValueError, RecursionError) as error:
        problem = f"Line {len(epochs) + 1} of {path} is damaged: {format_value(str(error), 200)}."
        raise CorruptedFileError(problem, BACKUP) from error
    if sha256 not in (None, hashlib.sha256(data).hexdigest()):
        problem = f"{path} is damaged: it does not belong to the checkpoint next to it."
        raise CorruptedFileError(problem, BACKUP)
    return epochs


def find_best_epoch(epochs: Iterable[Epoch | None]) -> Epoch | None:
    """Return the first epoch with the lowest held-out loss, or None without held-out text."""
    losses = [(row.valid_loss, row) for row in epochs if row and row.valid_loss is not None]
    return min(losses, key=lambda pair: pair[0])[1] if losses else None


def reload_text(folder: Path, record: TextRecord, text: books.Text | None = None) -> books.Text:
    """Return `text` or, if it is None, the run's text; verify that the text has not changed.

    Network paths are not opened, because a run from someone else could refer to any host.
    """
    if text is None and record.corpus != "file":
        text = books.load(record.corpus)
    elif text is None:
        if record.origin.startswith(("\\\\", "//")) or not os.path.exists(record.origin):
            raise RNNScratchError(
                f"The run in {folder} was trained on the text {record.origin}, which is not on "
                "this computer.",
                "If you have this text elsewhere, pass its path as `text`.",
            )
        text = books.read_file(record.origin)
    if text.sha256 == record.sha256:
        return text
    problem = f"The text {text.origin} has changed since the run was started."
    if text.origin != record.origin:
        problem = f"The text {text.origin} differs from the run's text, {record.origin}."
    raise RNNScratchError(problem, "Pass the original text as `text`, or train a new run.")
