"""Training in a notebook: a card with a growing curve, the latest sample and the time left.

The last state of the card stays in the notebook, as one output. IPython is not imported: where
there is a notebook, it has been.
"""

import sys
import time
from pathlib import Path
from typing import Any

from ..settings import Settings
from . import card
from . import folder as run_folder
from .folder import Epoch, Session
from .progress import TimeLeft, numbers, numbers_within
from .training import Progress, Report

EVERY = 1.0  # seconds, at least, between two states of the card

# The runs whose cards training has left in the notebook: folder, and number of the cell.
shown: dict[Path, int] = {}


def shell() -> Any:
    """IPython's shell if this process is the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")
    found = ipython and ipython.get_ipython()
    return found if hasattr(found, "kernel") else None


def is_shown(folder: Path) -> bool:
    """Whether the output of the present cell has the card of this run already."""
    here = shell()
    return here is not None and shown.get(folder) == here.execution_count


class Live(Report):
    """The card of a run that is under way."""

    def say(self, line: str) -> None:
        """Print the message, which the card would not have room for."""
        print(line)

    def start(self, folder: Path, settings: Settings, session: Session) -> None:
        """Display the card."""
        self.folder, self.last = folder, settings.num_epochs
        self.heading = card.title(settings, session.place)
        self.history = run_folder.history(folder)
        self.tokens = settings.batch_size * settings.num_steps  # of a minibatch
        self.time_left = TimeLeft(self.last)
        self.when, self.numbers = f"epoch {session.from_epoch + 1} of {self.last}", ""
        self.done = float(session.from_epoch)  # epochs
        self.handle = sys.modules["IPython"].display.display(
            self._data([self.when], self.done), raw=True, display_id=True
        )
        self.drawn = time.monotonic()
        shown[folder] = shell().execution_count

    def progress(self, progress: Progress) -> None:
        """Show how far the epoch has come, and the time left."""
        left = self.time_left.after(progress)
        self.when = f"epoch {progress.epoch} of {self.last}"
        if left is not None:
            self.when += f", time left {left}"
        if progress.loss is not None:
            self.numbers = numbers_within(progress, self.tokens).rstrip()
        self.done = progress.epoch - 1 + progress.done / progress.total
        self._update_if_due()

    def epoch(self, epoch: Epoch) -> None:
        """Add the epoch to the curve."""
        self.history.append(epoch)
        self.numbers, self.done = numbers(epoch), epoch.epoch
        self._update_if_due()

    def stop(self) -> None:
        """Leave the last state in the notebook, and how to go on after an interruption."""
        if not hasattr(self, "handle"):
            return
        words = [card.summary(self.history)] if self.history else []
        error = sys.exc_info()[1]  # which is being handled
        if error is not None:
            present = min(int(self.done) + 1, self.last)
            words.append(f"stopped in epoch {present} of {self.last}")
        if isinstance(error, KeyboardInterrupt):
            words.append(f"to go on: rnn_scratch.resume({str(self.folder)!r}, {self.last})")
        self._update(words)

    def finish(self, run: Any) -> None:
        """Replace the card by the run's own."""
        data = {"text/html": run._repr_html_(), "text/plain": repr(run)}
        self.handle.update(data, raw=True)

    def _update_if_due(self) -> None:
        if time.monotonic() - self.drawn >= EVERY:
            self._update([self.when, self.numbers], self.done)

    def _update(self, words: list[str], done: float | None = None) -> None:
        self.handle.update(self._data(words, done), raw=True)
        self.drawn = time.monotonic()

    def _data(self, words: list[str], done: float | None = None) -> dict[str, str]:
        # The card, and one line for programs that show no pictures.
        samples = [epoch.sample for epoch in self.history if epoch.sample is not None][-1:]
        share = None if done is None else done / self.last
        content = (self.heading, words, samples, self.folder, self.history, self.last, share)
        return {"text/html": card.card(*content), "text/plain": "  ".join(words)}
