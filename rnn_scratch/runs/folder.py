"""A run's folder: the record, the history, the curve and the checkpoint.

``run.json``                settings, text, and each session: where, when and with what result
``history.jsonl``           a line of JSON per epoch, written when it ends
``perplexity.png``          the curve
``checkpoint.safetensors``  the latest state of the training; see `runs.sessions` for how often

The lines of the history are consecutive epochs. Where some were lost, a line says which.
"""

import contextlib
import dataclasses
import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..contract import RNNScratchError
from ..settings import Settings, shown
from ..system import files
from ..system.files import Damaged

RECORD, HISTORY, CURVE = "run.json", "history.jsonl", "perplexity.png"
FORMAT = 2  # of the record, as written
FORMATS = (1, FORMAT)  # that can be read
PARENT = Path("runs")
DAMAGED = ".damaged"  # is added to the names of damaged files that have been replaced


class Epoch(NamedTuple):
    """One epoch of training, as in the history; losses are means in nats per character."""

    epoch: int
    loss: float
    perplexity: float | None  # None where it is too large for a float
    valid_loss: float | None
    valid_perplexity: float | None
    tokens: int
    seconds: float
    backend: str
    sample: str | None  # generated text, every tenth epoch


class Lost(NamedTuple):
    """Epochs that the history lacks, because the file was damaged: the first and the last."""

    first: int
    last: int

    def __str__(self) -> str:
        """Such as "epoch 3" or "epochs 3 to 5"."""
        one = self.first == self.last
        return f"epoch {self.first}" if one else f"epochs {self.first} to {self.last}"


def create(folder: Path | None, backend: str) -> Path:
    """Create the folder of a new run: this one, or by default a dated one under ``runs/``."""
    try:
        if folder is None:
            folder = dated(backend)
        else:
            folder.mkdir(parents=True)
        files.sync_folder(folder.parent)
        return folder
    except FileExistsError as error:
        raise RNNScratchError(
            f"The run folder {folder or PARENT} exists already.\nChoose another with --run, or "
            f"resume the run in it: rnn-scratch train --resume {folder or PARENT} --epochs N"
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
    number = 1
    while True:
        folder = PARENT / (stamp if number == 1 else f"{stamp}-{number}")
        # Created without a check whether it exists: another run may start in the same second.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
        number += 1


def read(folder: Path) -> dict[str, Any]:
    """The record of a run; Damaged if it is damaged, RNNScratchError if there is none.

    Format 1 knew no ``fast``: its ``scratch`` is the code that has this name now.
    """
    absence = (
        f"{folder} is not the folder of a run: it has no {RECORD}.\n"
        "`rnn-scratch runs` lists the runs."
    )
    return files.read_record(folder / RECORD, FORMATS, _prepare, absence)


def _prepare(record: dict[str, Any]) -> None:
    # Raise an error of some kind if something is missing or impossible; convert format 1.
    _json(record)  # raises an error for halves of characters, of which JSON has escapes
    record["settings"]["num_epochs"]
    record["settings"] = dataclasses.asdict(Settings(**record["settings"]))
    for key in ("corpus", "origin", "sha256"):
        _require(record["text"][key], str)
    for session in record["sessions"]:
        for key in ("backend", "model", "device", "outcome"):
            _require(session[key], str)
        _require(session["threads"], int)
        _require(session["eager"], bool)
        _require(session.setdefault("workers", 1), int)  # which older records lack
        if started(session).tzinfo is None:
            raise ValueError("a time without its time zone")
    record["sessions"][-1]
    if record["format"] == 1:
        for session in record["sessions"]:
            session["model"] = session["model"].replace("scratch", "fast")
        record["format"] = FORMAT


def _require(value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{shown(value)} is no {kind.__name__}")


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write the record; the old one is replaced only when the new one is complete."""
    files.replace(folder / RECORD, _json(record))


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"


def set_aside(path: Path) -> Path:
    """Rename a damaged file, to keep it while another takes its place; the new path."""
    aside = path.with_name(path.name + DAMAGED)
    try:
        path.replace(aside)
    except OSError as error:
        raise files.unwritable(aside, error) from error
    return aside


def history(folder: Path) -> list[Epoch]:
    """The epochs recorded so far, without a last line that a kill has left incomplete.

    Raises Damaged if a line is damaged, or epochs are missing and no line says so.
    """
    rows, problems = _rows(folder)
    if problems:
        raise Damaged(
            f"{problems[0]}\nResuming the run continues it from its checkpoint, without these "
            f"lines: rnn-scratch train --resume {folder} --epochs N"
        )
    return [row for row in rows if isinstance(row, Epoch)]


def _rows(folder: Path) -> tuple[list[Epoch | Lost], list[str]]:
    # The lines of the history that are readable, and what is wrong with it.
    path = folder / HISTORY
    try:
        # As bytes: a kill may split a character, and in text other characters than \n end lines.
        *lines, last = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise RNNScratchError(f"{path} could not be read: {error.strerror}.") from error
    rows: list[Epoch | Lost] = []
    problems: list[str] = []
    following = 1  # the next epoch
    for number, line in enumerate(lines, 1):
        try:
            row = _parse(line)
        except Exception:  # whatever a damaged line leads to
            problems.append(f"Line {number} of {path} is damaged.")
            continue
        first = row.first if isinstance(row, Lost) else row.epoch
        if first != following and not problems:
            problems.append(
                f"Line {number} of {path} is of epoch {first}, where epoch {following} is missing."
            )
        following = (row.last if isinstance(row, Lost) else row.epoch) + 1
        rows.append(row)
    with contextlib.suppress(Exception):
        row = _parse(last)
        if isinstance(row, Epoch) and row.epoch == following:
            rows.append(row)
    return rows, problems


def _parse(line: bytes) -> Epoch | Lost:
    values = json.loads(line)
    if "lost" in values:
        lost = Lost(*values["lost"])
        _require(lost.first, int)
        _require(lost.last, int)
        return lost
    epoch = Epoch(**values)
    for name in ("epoch", "tokens"):
        _require(getattr(epoch, name), int)
    for name in ("loss", "perplexity", "valid_loss", "valid_perplexity", "seconds"):
        value = getattr(epoch, name)
        if value is not None and not math.isfinite(value):
            raise ValueError(name)
    for name in ("backend", "sample"):
        _require(getattr(epoch, name) or "", str)
    _line(epoch)  # raises an error for halves of characters, of which JSON has escapes
    _require(epoch.loss, float)
    return epoch


def append(folder: Path, epoch: Epoch) -> None:
    """Add an epoch to the history; it is on the disk for certain after `sync_history`."""
    files.append(folder / HISTORY, _line(epoch))


def sync_history(folder: Path) -> None:
    """Return when the history is on the disk."""
    files.sync(folder / HISTORY)


def repair_history(folder: Path, epoch: int) -> list[Lost]:
    """Let the history end with this epoch, the checkpoint's; returns what it lacks before that.

    Lines of later epochs are removed, and a line is added for lost epochs. If lines were damaged,
    the file is kept under another name. Incomplete files that a kill has left behind are deleted.
    """
    files.delete_temporary(folder)
    rows, problems = _rows(folder)
    if problems:
        set_aside(folder / HISTORY)
    epochs = {row.epoch: row for row in rows if isinstance(row, Epoch)}
    lines: list[Epoch | Lost] = []
    for number in range(1, epoch + 1):
        if number in epochs:
            lines.append(epochs[number])
        elif lines and isinstance(lines[-1], Lost):
            lines[-1] = Lost(lines[-1].first, number)
        else:
            lines.append(Lost(number, number))
    files.replace(folder / HISTORY, b"".join(map(_line, lines)))
    return [row for row in lines if isinstance(row, Lost) and row not in rows]


def _line(row: Epoch | Lost) -> bytes:
    values = row._asdict() if isinstance(row, Epoch) else {"lost": list(row)}
    return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode()


def listing(
    parent: Path, say: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, dict[str, Any], list[Epoch]]]:
    """The runs in a folder, newest first: folder, record, history.

    Damaged ones are omitted; `say` is called with a line about each.
    """
    runs = []
    for path in sorted(parent.glob(f"*/{RECORD}")):
        try:
            runs.append((path.parent, read(path.parent), history(path.parent)))
        except RNNScratchError as error:
            say(str(error).splitlines()[0])
    return sorted(
        runs, key=lambda run: (started(run[1]["sessions"][-1]), str(run[0])), reverse=True
    )


def started(session: dict[str, Any]) -> datetime.datetime:
    """When a session began."""
    return datetime.datetime.fromisoformat(session["started"])
