"""The runs in a folder, and the short names by which commands find them."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import RNNScratchError
from . import checkpoint
from .run_folder import PARENT, RUN_FILE, Epoch, RunRecord, read, read_history


def begun(
    parent: Path, say: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord]]:
    """Return the runs in a folder with their records, in the order in which they were begun.

    Damaged ones are omitted; `say` is called with a line about each.
    """
    runs = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if os.path.lexists(folder / RUN_FILE):
            try:
                runs.append((folder, read(folder)))
            except RNNScratchError as error:
                say(error.problem)
    return sorted(runs, key=lambda run: (run[1].sessions[0].started, str(run[0])))


def listing(
    parent: Path, say: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord, list[Epoch]]]:
    """Return the runs in a folder, newest first: folder, record, and history to the latest state.

    Else as `begun`.
    """
    runs = []
    for folder, record in reversed(begun(parent, say)):
        try:
            _, saved = checkpoint.latest(folder, arrays=False, identity=record.identity)
            history = read_history(folder, saved.epoch, saved.history)
            runs.append((folder, record, history.epochs))
        except RNNScratchError as error:
            say(error.problem)
    return runs


def names() -> dict[str, Path]:
    """Return the runs in ``runs/`` by short name: 1 for the oldest, and so on; ``last``."""
    folders = [folder for folder, _ in begun(PARENT)]
    numbered = {str(number): folder for number, folder in enumerate(folders, 1)}
    return {**numbered, "last": folders[-1]} if folders else {}


def find(run: Path) -> Path:
    """Return what a command's RUN is: a path as it is, or the folder of the run with a short name.

    A file or folder of that very name comes first. Raises RNNScratchError if there is no such run.
    """
    name = str(run)
    if not re.fullmatch("last|[0-9]+", name) or os.path.lexists(run):
        return run
    runs = names()
    if not runs:
        raise RNNScratchError(f"There is no run in {PARENT} yet.", "Start one: rnn-scratch train")
    if name not in runs:
        raise RNNScratchError(
            f"There is no run {name}: those in {PARENT} are 1 to {len(runs) - 1}, the last one.",
            "`rnn-scratch runs` lists them.",
        )
    return runs[name]
