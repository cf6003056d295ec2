"""A finished run, as Python's `train` and `resume` return it."""

from pathlib import Path
from typing import NamedTuple

from ..contract import Arrays
from . import curve, notebook
from .folder import Epoch, RunRecord


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

    def __repr__(self) -> str:
        """One line, without the parameters and the history."""
        return f"<Run {self.folder}: {notebook.summary(self.history)}>"

    def _repr_html_(self) -> str:
        # What a notebook shows of it.
        session, last = self.record.sessions[-1], self.history[-1].epoch
        picture = curve.picture({session.runtime.backend: self.history}, last=last)
        heading = notebook.title(self.record.settings, session.runtime)
        words = [notebook.summary(self.history)]
        return notebook.card(heading, words, session.predictions, self.folder, picture)

    def _ipython_display_(self) -> None:
        # Not a second time below the training. The error lets IPython go on to the other forms.
        if not notebook.is_shown(self.folder):
            raise NotImplementedError


def folder_of(run: Run | str | Path) -> Path:
    """The folder of a run, or its path or that of a checkpoint."""
    return run.folder if isinstance(run, Run) else Path(run)
