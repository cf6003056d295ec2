"""A run as Python's `train` and `resume` return it, and the runs in a folder."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..contract import Arrays
from ..errors import RNNScratchError
from ..system import files
from . import checkpoint, notebook_card, run_folder
from .progress import summary
from .run_folder import PARENT, RUN_FILE, Epoch, RunRecord, read_history


class Run(NamedTuple):
    """A finished run: its folder and its results."""

    folder: Path
    history: list[Epoch]
    record: RunRecord  #: with the settings, the text and the sessions of training
    vocab: list[str]  #: the character of each token
    arrays: Arrays  #: the parameters by name, and the optimizer's state

    @property
    def perplexity(self) -> float | None:
        """Perplexity of the last epoch on the text it trained on."""
        return self.history[-1].perplexity

    @property
    def best(self) -> Epoch | None:
        """The epoch with the lowest loss on held-out text; None if none was held out."""
        return run_folder.best(self.history)

    def __repr__(self) -> str:
        """One line, without the parameters and the history."""
        return f"<Run {self.folder}: {summary(self.history)}>"

    def _repr_html_(self) -> str:
        # What a notebook shows of it.
        settings, session = self.record.settings, self.record.sessions[-1]
        text, samples = summary(self.history), session.predictions
        return notebook_card.card(self.folder, self.history, settings, session, text, samples)

    def _ipython_display_(self) -> None:
        # Not a second time below its training. The error lets IPython go on to the other forms.
        cell = sys.modules["IPython"].get_ipython().execution_count
        if notebook_card.displayed.get(self.folder) != cell:
            raise NotImplementedError


def begun(
    parent: Path, say: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord]]:
    """Return the runs in a folder with their records, by number, and by name where it is equal.

    Damaged and unreadable ones are omitted; `say` is called with a line about each.
    """
    runs = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        try:
            if files.exists(folder / RUN_FILE):
                runs.append((folder, run_folder.read(folder)))
        except RNNScratchError as error:
            say(error.problem)
    return sorted(runs, key=lambda run: run[1].number)


def listing(
    parent: Path, say: Callable[[str], None] = lambda line: None
) -> list[tuple[Path, RunRecord, list[Epoch]]]:
    """Return the runs in a folder, newest first: folder, record, and history to the latest state.

    Else as `begun`.
    """
    runs = []
    for folder, record in reversed(begun(parent, say)):
        try:
            saved = checkpoint.load(folder, arrays=False)
            runs.append((folder, record, read_history(folder, saved.history).epochs))
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


def folder_of(run: Run | str | Path) -> Path:
    """Return the folder of a run: a path as it is, or that of the run with a short name.

    A file or folder of that very name comes first. Raises RNNScratchError if there is no such run.
    """
    if isinstance(run, Run):
        return run.folder
    name = str(run)
    if not re.fullmatch("last|[0-9]{1,9}", name) or os.path.lexists(name):
        return Path(run)
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
