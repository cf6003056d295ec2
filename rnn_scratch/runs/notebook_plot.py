"""The live plot of a run in a notebook."""

import sys
import time
from pathlib import Path
from typing import Any

from ..training.events import Ended, Epoch, Progress, Started
from . import curve, run_folder
from .progress import LineReport, format_history, format_progress

MIN_SECONDS = 2.0  # minimum interval between updates of the plot; an update takes about 0.1 s


def notebook_shell() -> Any:
    """Return IPython's shell if this process is the kernel of a notebook, otherwise None."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


class LivePlot(LineReport):
    """A report that shows a run's curve and a line of metrics, instead of printing lines."""

    def started(self, event: Started) -> None:
        """Display the current curve."""
        self.backend, self.num_epochs = event.session.runtime.backend, event.settings.num_epochs
        self.epochs, self.update_time = run_folder.history(Path(event.folder)), time.monotonic()
        data = self._data(f"epoch {event.session.from_epoch + 1} of {self.num_epochs}")
        self.handle = sys.modules["IPython"].display.display(data, raw=True, display_id=True)

    def progress(self, event: Progress) -> None:
        """Update the curve, the metrics and the time left, at most once every MIN_SECONDS."""
        if time.monotonic() - self.update_time >= MIN_SECONDS:
            text = f"epoch {event.epoch} of {self.num_epochs}  {format_progress(event)}"
            self.handle.update(self._data(text.rstrip()), raw=True)
            self.update_time = time.monotonic()

    def epoch(self, event: Epoch) -> None:
        """Add the epoch to the curve."""
        self.epochs.append(event)

    def ended(self, event: Ended) -> None:
        """Display the whole run's curve and final metrics."""
        self.handle.update(self._data(format_history(self.epochs)), raw=True)

    def _data(self, title: str) -> dict[str, Any]:
        picture = curve.picture({self.backend: self.epochs}, title)
        return {"image/png": picture, "text/plain": title}
