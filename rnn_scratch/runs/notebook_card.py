"""The live plot of a run in a notebook."""

import sys
import time
from pathlib import Path
from typing import Any

from ..training.events import Ended, Epoch, Progress, Started
from . import curve, run_folder
from .progress import LineReport, numbers_within, summary, time_left

MIN_SECONDS = 2.0  # between two states of the plot; drawing takes about 0.1


def notebook_shell() -> Any:
    """Return IPython's shell if this process is the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


class Live(LineReport):
    """Show the curve of a training run and a line of metrics, instead of printing lines."""

    def started(self, event: Started) -> None:
        """Display the curve so far."""
        self.backend, self.last = event.session.runtime.backend, event.settings.num_epochs
        self.epochs, self.drawn = run_folder.history(Path(event.folder)), time.monotonic()
        data = self._data(f"epoch {event.session.from_epoch + 1} of {self.last}")
        self.handle = sys.modules["IPython"].display.display(data, raw=True, display_id=True)

    def progress(self, event: Progress) -> None:
        """Update the curve, the metrics and the time left."""
        if time.monotonic() - self.drawn >= MIN_SECONDS:
            text = f"epoch {event.epoch} of {self.last}  {numbers_within(event)}"
            self.handle.update(self._data(f"{text}{time_left(event.left)}".rstrip()), raw=True)
            self.drawn = time.monotonic()

    def epoch(self, event: Epoch) -> None:
        """Add the epoch to the curve."""
        self.epochs.append(event)

    def ended(self, event: Ended) -> None:
        """Leave the curve of the whole run, with its latest metrics."""
        self.handle.update(self._data(summary(self.epochs)), raw=True)

    def _data(self, title: str) -> dict[str, Any]:
        picture = curve.picture({self.backend: self.epochs}, title)
        return {"image/png": picture, "text/plain": title}
