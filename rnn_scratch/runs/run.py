"""A run as Python's `train` and `resume` return it."""

import sys
from pathlib import Path
from typing import NamedTuple

from ..contract import Arrays
from . import catalog, notebook_card, run_folder
from .progress import summary
from .run_folder import Epoch, RunRecord


class Run(NamedTuple):
    """A finished run: its folder and its results."""

    folder: Path
    history: list[Epoch]
    record: RunRecord
    vocab: list[str]
    arrays: Arrays

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
        if notebook_card.shown.get(self.folder) != cell:
            raise NotImplementedError


def folder_of(run: Run | str | Path) -> Path:
    """The folder of a run, or of one by its path or short name; or the path of a checkpoint.

    Raises RNNScratchError as `catalog.find` does.
    """
    return run.folder if isinstance(run, Run) else catalog.find(Path(run))
