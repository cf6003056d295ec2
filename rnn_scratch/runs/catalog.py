"""The runs in a folder, and the short names by which commands find them."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import RNNScratchError
from .run_folder import PARENT, RUN_FILE, Epoch, RunRecord, history, read


def begun(
    parent: Path, say: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord]]:
    """The runs in a folder with their records, in the order in which they were begun.

    Damaged ones are omitted; `say` is called with a line about each.
    """
    runs = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if os.path.lexists(folder / RUN_FILE):
            try:
                runs.append((folder, read(folder)))
            except RNNScratchError as error:
                say(str(error).splitlines()[0])
    return sorted(runs, key=lambda run: (run[1].sessions[0].started, str(run[0])))


def listing(
    parent: Path, say: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord, list[Epoch]]]:
    """The runs in a folder, newest first: folder, record, history; else as `begun`."""
    runs = []
    for folder, record in reversed(begun(parent, say)):
        try:
            runs.append((folder, record, history(folder)))
        except RNNScratchError as error:
            say(str(error).splitlines()[0])
    return runs


def names() -> dict[str, Path]:
    """The runs in ``runs/`` by their short names: 1 for the oldest, and so on; ``last``."""
    folders = [folder for folder, _ in begun(PARENT)]
    numbered = {str(number): folder for number, folder in enumerate(folders, 1)}
    return {**numbered, "last": folders[-1]} if folders else {}


def find(run: Path) -> Path:
    """What a command's RUN is: a path as it is, or the folder of the run with this short name.

    A file or folder of that very name comes first. Raises RNNScratchError if there is no such run.
    """
    name = str(run)
    if not re.fullmatch("last|[0-9]+", name) or os.path.lexists(run):
        return run
    runs = names()
    if not runs:
        raise RNNScratchError(f"There is no run in {PARENT} yet. Start one: rnn-scratch train")
    if name not in runs:
        raise RNNScratchError(
            f"There is no run {name}: those in {PARENT} are 1 to {len(runs) - 1}, the last one.\n"
            "`rnn-scratch runs` lists them."
        )
    return runs[name]
