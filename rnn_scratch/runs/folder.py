"""A run's folder: the record, the history, the curve and the checkpoint.

``run.json``                the settings, the text, and each session: where, when, its result
``history.jsonl``           a line of JSON per epoch, written as it ends
``perplexity.png``          the curve
``checkpoint.safetensors``  the model after the last whole epoch
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
FORMAT = 2  # of the record
PARENT = Path("runs")


class Epoch(NamedTuple):
    """One epoch of training, as the history keeps it; losses are means in nats per character."""

    epoch: int
    loss: float
    perplexity: float | None  # None where it is too large for a float
    valid_loss: float | None
    valid_perplexity: float | None
    tokens: int
    seconds: float
    backend: str
    sample: str | None  # what the model wrote, every tenth epoch


def create(folder: Path | None, backend: str) -> Path:
    """Make the folder of a new run: this one, or by default a dated one under ``runs/``."""
    try:
        if folder is None:
            return dated(backend)
        folder.mkdir(parents=True)
        return folder
    except FileExistsError as error:
        raise RNNScratchError(
            f"The run folder {folder or PARENT} exists already.\nGive another with --run, or "
            f"resume the run in it: rnn-scratch train --resume {folder or PARENT} --epochs N"
        ) from error
    except OSError as error:
        raise RNNScratchError(
            f"The run folder {folder or PARENT} could not be made: {error.strerror}."
        ) from error


def dated(what: str) -> Path:
    """A new folder under ``runs/``, named by the time and this word."""
    PARENT.mkdir(exist_ok=True)
    stamp = f"{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{what}"
    number = 1
    while True:
        folder = PARENT / (stamp if number == 1 else f"{stamp}-{number}")
        # Made, and not looked for first: another run may begin in the same second.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
        number += 1


def read(folder: Path) -> dict[str, Any]:
    """The record of a run; RNNScratchError where there is none or it is damaged.

    In records of format 1 ``scratch`` is the name of the code that is now ``fast``.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        Settings(**record["settings"])
        for key in ("corpus", "origin", "sha256"):
            record["text"][key]
        for key in ("backend", "model", "device", "outcome"):
            record["sessions"][-1][key]
        record["format"]
        _started(record)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RNNScratchError(
            f"{folder} is not the folder of a run: it has no {RECORD}.\n"
            "`rnn-scratch runs` lists the runs there are."
        ) from error
    except (OSError, ValueError, KeyError, IndexError, TypeError, RNNScratchError) as error:
        raise RNNScratchError(f"{path} could not be read, or is damaged: {error!r}.") from error
    if record["format"] == 1:
        for session in record["sessions"]:
            session["model"] = session["model"].replace("scratch", "fast")
    elif record["format"] != FORMAT:
        raise RNNScratchError(
            f"{path} has format {record['format']!r}, and this version of rnn-scratch reads "
            f"formats 1 and {FORMAT}.\nUse the version that wrote it."
        )
    return record | {"format": FORMAT}


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write the record; the old one stays until the new one is complete."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    files.replace(folder / RECORD, text.encode() + b"\n")


def history(folder: Path) -> list[Epoch]:
    """The epochs recorded so far; a last line that a kill cut short is left out."""
    path = folder / HISTORY
    if not path.exists():
        return []
    # Bytes: a kill may cut a character in two, and other characters than \n end lines of a text.
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
    """Add an epoch to the history, at once on disk."""
    path = folder / HISTORY
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_line(epoch))
    except OSError as error:
        raise files.unwritable(path, error) from error


def cut_history(folder: Path, epoch: int) -> list[Epoch]:
    """Drop what was recorded after this epoch, so that the history ends where the model is.

    Files that a kill left half written go with it.
    """
    files.sweep(folder)
    kept = [row for row in history(folder) if row.epoch <= epoch]
    files.replace(folder / HISTORY, "".join(map(_line, kept)).encode())
    return kept


def _line(epoch: Epoch) -> str:
    return json.dumps(epoch._asdict(), ensure_ascii=False, allow_nan=False) + "\n"


def listing(parent: Path) -> list[tuple[Path, dict[str, Any], list[Epoch]]]:
    """The runs under a folder, newest first: folder, record, history. Damaged ones are left out."""
    found = []
    for path in parent.glob(f"*/{RECORD}"):
        try:
            found.append((path.parent, read(path.parent), history(path.parent)))
        except RNNScratchError:
            continue
    return sorted(found, key=lambda run: (_started(run[1]), str(run[0])), reverse=True)


def _started(record: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(record["sessions"][-1]["started"])
