"""`Run`, the result of `train` and `resume`, and functions that list and find runs."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from ..contract import Arrays
from ..errors import RNNScratchError
from ..system import files
from ..system.terminal import LogLine
from ..training.events import Epoch
from . import checkpoint, run_folder
from .progress import format_history
from .run_folder import PARENT, RUN_FILE, RunRecord


class Run(NamedTuple):
    """A finished run: its folder and results."""

    folder: Path
    history: list[Epoch]
    record: RunRecord  #: settings, text and sessions
    vocab: list[str]  #: the character for each token
    arrays: Arrays  #: parameters and optimizer state, by name

    @property
    def perplexity(self) -> float | None:
        """The last epoch's perplexity on the training text."""
        return self.history[-1].perplexity

    @property
    def best(self) -> Epoch | None:
        """The epoch with the lowest held-out loss, or None without held-out text."""
        return run_folder.best(self.history)

    def __repr__(self) -> str:
        """Return a single-line summary of the run."""
        return f"<Run {self.folder}: {format_history(self.history)}>"


def read_runs(parent: Path, log: LogLine = lambda line: None) -> list[tuple[Path, RunRecord]]:
    """Return a folder's runs with records, sorted by number; log errors for unreadable runs."""
    runs = []
    for folder in sorted(parent.iterdir()) if parent != PARENT or parent.exists() else ():
        try:
            if os.path.exists(folder / RUN_FILE):  # False, not an error, if unreadable
                runs.append((folder, run_folder.read(folder)))
        except RNNScratchError as error:
            log(error.problem)
    return sorted(runs, key=lambda run: run[1].number)


def list_runs(
    parent: Path, log: LogLine = lambda line: None
) -> list[tuple[Path, RunRecord, list[Epoch]]]:
    """Return a folder's runs, newest first, with records and histories up to the checkpoints."""
    runs = []
    for folder, record in reversed(read_runs(parent, log)):
        try:
            runs.append((folder, record, checkpoint.latest(folder, arrays=False)[1]))
        except RNNScratchError as error:
            log(error.problem)
    return runs


def next_number(parent: Path) -> int:
    """Return the number for a new run in a folder: one more than the largest number in use."""
    return max((record.number for _, record in read_runs(parent)), default=0) + 1


def resolve_run(run: Run | str | Path) -> Path:
    """Return a run's folder, given a `Run`, short name or path.

    A short name is a run's number, or `last` for the run with the most recently started session.
    An existing path takes precedence. Raises RNNScratchError unless exactly one run matches.
    """
    if isinstance(run, Run):
        return run.folder
    name = str(run)
    if not re.fullmatch("last|[0-9]{1,9}", name) or os.path.lexists(name):
        return files.user_path(name)
    runs = read_runs(PARENT)
    if not runs:
        raise RNNScratchError(f"No runs found in {PARENT}.", "Start one: rnn-scratch train")
    if name == "last":
        # Only the newest run or a resumed run can be `last`, even if the clock has been set back.
        newest_number = runs[-1][1].number
        runs = [run for run in runs if run[1].number == newest_number or len(run[1].sessions) > 1]
        return max(runs, key=lambda run: (run[1].sessions[-1].started, run[1].number))[0]
    folders = [folder for folder, record in runs if record.number == int(name)]
    if len(folders) != 1:  # a copy of a run has the same number
        problem = f"The folder {PARENT} has {len(folders) or 'no'} runs with the number {name}."
        raise RNNScratchError(problem, "Pass the folder of a run; `rnn-scratch runs` lists them.")
    return folders[0]
