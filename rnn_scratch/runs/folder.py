"""A run's folder: the record, the history, the curve and the checkpoint.

``run.json``                settings, text, and each session: where, when and with what result
``history.jsonl``           a line of JSON per epoch, written when it ends
``perplexity.png``          the curve
``checkpoint.safetensors``  the model after the last complete epoch
"""

import contextlib
import datetime
import json
from pathlib import Path
from typing import Any, NamedTuple

from ..contract import RNNScratchError
from ..settings import Settings
from ..system import files

RECORD, HISTORY, CURVE = "run.json", "history.jsonl", "perplexity.png"
FORMAT = 2  # of the record, as written
FORMATS = (1, FORMAT)  # that can be read
PARENT = Path("runs")


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


def create(folder: Path | None, backend: str) -> Path:
    """Create the folder of a new run: this one, or by default a dated one under ``runs/``."""
    try:
        if folder is None:
            return dated(backend)
        folder.mkdir(parents=True)
        return folder
    except FileExistsError as error:
        raise RNNScratchError(
            f"The run folder {folder or PARENT} exists already.\nChoose another with --run, or "
            f"resume the run in it: rnn-scratch train --resume {folder or PARENT} --epochs N"
        ) from error
    except OSError as error:
        raise RNNScratchError(
            f"The run folder {folder or PARENT} could not be created: {error.strerror}."
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
    """The record of a run; RNNScratchError if there is none or it is damaged.

    Format 1 knew no ``fast``: its ``scratch`` is the code that has this name now.
    """
    absence = (
        f"{folder} is not the folder of a run: it has no {RECORD}.\n"
        "`rnn-scratch runs` lists the runs."
    )
    return files.read_record(folder / RECORD, FORMATS, _prepare, absence)


def _prepare(record: dict[str, Any]) -> None:
    # Raise an error of some kind if something is missing or impossible; convert format 1.
    Settings(**record["settings"])
    for key in ("corpus", "origin", "sha256"):
        record["text"][key]
    for key in ("backend", "model", "device", "threads", "eager", "outcome"):
        record["sessions"][-1][key]
    _started(record)
    if record["format"] == 1:
        for session in record["sessions"]:
            session["model"] = session["model"].replace("scratch", "fast")
        record["format"] = FORMAT


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write the record; the old one is replaced only when the new one is complete."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    files.replace(folder / RECORD, text.encode() + b"\n")


def history(folder: Path) -> list[Epoch]:
    """The epochs recorded so far, without a last line that a kill has left incomplete."""
    path = folder / HISTORY
    if not path.exists():
        return []
    # As bytes: a kill may split a character, and in text other characters than \n end lines.
    *lines, last = path.read_bytes().split(b"\n")
    epochs = []
    for number, line in enumerate(lines, 1):
        try:
            epochs.append(Epoch(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RNNScratchError(f"Line {number} of {path} is damaged.") from error
    with contextlib.suppress(ValueError, TypeError):
        epochs.append(Epoch(**json.loads(last)))
    return epochs


def append(folder: Path, epoch: Epoch) -> None:
    """Add an epoch to the history on disk."""
    path = folder / HISTORY
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_line(epoch))
    except OSError as error:
        raise files.unwritable(path, error) from error


def cut_history(folder: Path, epoch: int) -> list[Epoch]:
    """Remove the epochs after this one, the checkpoint's, from the history; returns the others.

    Incomplete files that a kill has left behind are deleted as well.
    """
    files.delete_temporary(folder)
    rows = [row for row in history(folder) if row.epoch <= epoch]
    files.replace(folder / HISTORY, "".join(map(_line, rows)).encode())
    return rows


def _line(epoch: Epoch) -> str:
    return json.dumps(epoch._asdict(), ensure_ascii=False, allow_nan=False) + "\n"


def listing(parent: Path) -> list[tuple[Path, dict[str, Any], list[Epoch]]]:
    """The runs in a folder, newest first: folder, record, history. Damaged ones are omitted."""
    runs = []
    for path in parent.glob(f"*/{RECORD}"):
        with contextlib.suppress(RNNScratchError):
            runs.append((path.parent, read(path.parent), history(path.parent)))
    return sorted(runs, key=lambda run: (_started(run[1]), str(run[0])), reverse=True)


def _started(record: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(record["sessions"][-1]["started"])
