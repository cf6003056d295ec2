"""`Run`, the result of `train` and `resume`, and functions that list and find runs."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..contract import Arrays
from ..errors import RNNScratchError
from ..system import files
from ..system.terminal import LogLine
from ..training.events import Epoch
from . import checkpoint, run_folder
from .progress import format_history
from .run_folder import PARENT, RUN_FILE, RunRecord


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its folder and results. Runs with equal records and histories are equal."""

    folder: Path
    history: list[Epoch]
    record: RunRecord  #: settings, text and sessions
    vocab: list[str]  #: the character for each token
    arrays: Arrays = field(compare=False)  #: parameters and optimizer state, by name

    @property
    def perplexity(self) -> float | None:
        """The last epoch's perplexity on the training text."""
        return self.history[-1].perplexity

    @property
    def best(self) -> Epoch | None:
        """The epoch with the lowest held-out loss, or None without held-out text."""
        return run_folder.find_best_epoch(self.history)

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
            runs.append((folder, record, checkpoint.load_latest(folder, arrays=False)[1]))
        except RNNScratchError as error:
            log(error.problem)
    return runs


def resolve_run(run: Run | str | Path) -> Path:
    """Return a run's folder, given a `Run`, short name or path.

    A short name is a run's number, or `last`; if several runs match, the run with the most recently
    started session is returned. An existing path takes precedence.
    """
    if isinstance(run, Run):
        return run.folder
    name = str(run)
    if not re.fullmatch("last|[0-9]{1,9}", name) or os.path.lexists(name):
        return files.user_path(name)
    runs = read_runs(PARENT)
    if name == "last":
        # Only the newest run or a resumed run can be `last`, even if the clock has been set back.
        runs = [r for r in runs if r[1].number == runs[-1][1].number or len(r[1].sessions) > 1]
    else:  # copies, and runs that started at the same time, can have the same number
        runs = [run for run in runs if run[1].number == int(name)]
    if not runs:
        hint = "`rnn-scratch runs` lists the runs, and `rnn-scratch train` starts one."
        raise RNNScratchError(f"No run {name!r} found in {PARENT}.", hint)
    return max(runs, key=lambda run: (run[1].sessions[-1].started, run[1].number))[0]
