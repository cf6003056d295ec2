"""A run as Python's `train` and `resume` return it, and the runs in a folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..contract import Arrays
from ..errors import RNNScratchError
from ..training.events import Epoch
from . import checkpoint, run_folder
from .progress import summary
from .run_folder import PARENT, RUN_FILE, RunRecord


class Run(NamedTuple):
    """A finished run: its folder and its results."""

    folder: Path
    history: list[Epoch]
    record: RunRecord  #: settings, text and sessions
    vocab: list[str]  #: the character of each token
    arrays: Arrays  #: parameters by name, and the optimizer's state

    @property
    def perplexity(self) -> float | None:
        """Perplexity of the last epoch on the training text."""
        return self.history[-1].perplexity

    @property
    def best(self) -> Epoch | None:
        """The epoch with the lowest loss on held-out text, or None without held-out text."""
        return run_folder.best(self.history)

    def __repr__(self) -> str:
        """Return one line without the parameters and the history."""
        return f"<Run {self.folder}: {summary(self.history)}>"


def begun(
    parent: Path, log: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord]]:
    """Return the runs in a folder with their records, sorted by number.

    Damaged and unreadable runs are omitted; `log` is called with a line about each run.
    """
    runs = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        try:
            if (folder / RUN_FILE).exists():
                runs.append((folder, run_folder.read(folder)))
        except RNNScratchError as error:
            log(error.problem)
    return sorted(runs, key=lambda run: run[1].number)


def listing(
    parent: Path, log: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord, list[Epoch]]]:
    """Return the runs in a folder, newest first: folder, record, and history to the latest state.

    Damaged and unreadable runs are omitted as by `begun`.
    """
    runs = []
    for folder, record in reversed(begun(parent, log)):
        try:
            runs.append((folder, record, checkpoint.latest(folder, arrays=False)[1]))
        except RNNScratchError as error:
            log(error.problem)
    return runs


def next_number(parent: Path) -> int:
    """Return the number of a new run, which changes no other run's number."""
    return max((record.number for _, record in begun(parent)), default=0) + 1


def resolve_run(run: Run | str | Path) -> Path:
    """Return the folder of a run: a path as it is, or the folder of the run with a short name.

    A file or folder with this name takes precedence. Short names are a number, and `last` for the
    run whose session started last. Raises RNNScratchError if the run does not exist.
    """
    if isinstance(run, Run):
        return run.folder
    name = str(run)
    if not re.fullmatch("last|[0-9]{1,9}", name) or os.path.lexists(name):
        return Path(run)
    runs = begun(PARENT)
    if not runs:
        raise RNNScratchError(f"There is no run in {PARENT} yet.", "Start one: rnn-scratch train")
    if name == "last":
        return max(runs, key=lambda run: (run[1].sessions[-1].started, run[1].number))[0]
    folders = [folder for folder, record in runs if record.number == int(name)]
    if len(folders) != 1:  # a copied run has the number of the original
        problem = f"{PARENT} has {len(folders)} runs with the number {name}."
        raise RNNScratchError(problem, "Pass the folder of a run; `rnn-scratch runs` lists them.")
    return folders[0]
