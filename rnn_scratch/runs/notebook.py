"""Training in a notebook: the run's card, whose curve grows. IPython is there if a notebook is."""

import sys
import time
from pathlib import Path
from typing import Any

from ..settings import Settings
from . import folder as run_folder
from .folder import Epoch, Session
from .progress import LineReport, numbers_within, time_left
from .run import Run, card, shown, summary
from .training import Progress

EVERY = 2.0  # seconds, at least, between two states of the card: to draw one takes about 0.1


def shell() -> Any:
    """IPython's shell if this process is the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")
    found = ipython and ipython.get_ipython()
    return found if hasattr(found, "kernel") else None


class Live(LineReport):
    """In place of lines, the card of a run that is under way; its last state stays."""

    def start(self, folder: Path, settings: Settings, session: Session) -> None:
        """Display the card."""
        self.path, self.settings, self.session = folder, settings, session
        self.history, self.drawn = run_folder.history(folder), time.monotonic()
        display = sys.modules["IPython"].display.display
        data = self._data(f"epoch {session.from_epoch + 1} of {settings.num_epochs}")
        self.handle = display(data, raw=True, display_id=True)
        shown[folder] = shell().execution_count

    def progress(self, progress: Progress) -> None:
        """Show how far the training has come, and the time left."""
        if time.monotonic() - self.drawn >= EVERY:
            so_far = f"{numbers_within(progress)}{time_left(progress)}"
            text = f"epoch {progress.epoch} of {self.settings.num_epochs}  {so_far}"
            self.handle.update(self._data(text.rstrip()), raw=True)
            self.drawn = time.monotonic()

    def epoch(self, epoch: Epoch) -> None:
        """Add the epoch to the curve."""
        self.history.append(epoch)

    def stop(self) -> None:
        """Leave the last state, which depends on no clock, and say how to go on if interrupted."""
        if hasattr(self, "handle"):
            text = summary(self.history)
            if isinstance(sys.exc_info()[1], KeyboardInterrupt):  # which is being handled
                last = self.settings.num_epochs
                text += f"; to go on: rnn_scratch.resume({str(self.path)!r}, {last})"
            self.handle.update(self._data(text), raw=True)

    def finish(self, run: Run) -> None:
        """Replace the card by that of the finished run."""
        data = {"text/html": run._repr_html_(), "text/plain": repr(run)}
        self.handle.update(data, raw=True)

    def _data(self, text: str) -> dict[str, str]:
        # The card, and one line for programs that show no pictures.
        samples = [epoch.sample for epoch in self.history if epoch.sample is not None][-1:]
        content = card(self.path, self.history, self.settings, self.session, text, samples)
        return {"text/html": content, "text/plain": text}
