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
    # By the clock, which may be set back, only if they began at the same moment or long ago.
    return sorted(runs, key=lambda run: (run[1].number, run[1].sessions[0].started, str(run[0])))


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


def numbered(parent: Path) -> dict[int, Path]:
    """Return the runs in a folder by number: their own, or a larger one if another run has it.

    A new run takes the next number, so it changes no other. Runs that begin at the same moment may
    record the same one.
    """
    runs: dict[int, Path] = {}
    for folder, record in begun(parent):
        runs[max(record.number, max(runs, default=0) + 1)] = folder
    return runs


def find(run: Path) -> Path:
    """Return what a command's RUN is: a path as it is, or the folder of the run with a short name.

    A file or folder of that very name comes first. Raises RNNScratchError if there is no such run.
    """
    name = str(run)
    if not re.fullmatch("last|[0-9]{1,9}", name) or os.path.lexists(run):
        return run
    runs = numbered(PARENT)
    if not runs:
        raise RNNScratchError(f"There is no run in {PARENT} yet.", "Start one: rnn-scratch train")
    number = max(runs) if name == "last" else int(name)
    if number not in runs:
        raise RNNScratchError(
            f"There is no run {name} in {PARENT}: the last one is {max(runs)}.",
            "`rnn-scratch runs` lists them.",
        )
    return runs[number]
