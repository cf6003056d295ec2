"""The card of a run in a notebook: its curve, which grows during training, and its texts."""

import base64
import html
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings import Settings
from . import curve, run_folder
from .events import Ended, Progress, Started
from .progress import LineReport, numbers_within, summary, time_left
from .run_folder import Epoch, Session

EVERY = 2.0  # seconds, at least, between two states of a card: to draw one takes about 0.1

# It takes its colors from the page, light or dark.
CARD = """\
<div style="display: flex; flex-wrap: wrap; gap: 0.5em 1.5em; max-width: 60em; padding: 0.7em;
 border: 1px solid rgba(128, 128, 128, 0.5); border-radius: 6px">
<img alt="perplexity against epochs" style="flex: 0 1 28em; min-width: 0; max-width: 100%"
 src="data:image/png;base64,{picture}"/>
<div style="flex: 1 1 18em"><div><b>{heading}</b></div><div>{summary}</div>
<pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.5em 0">{texts}</pre>
<div>run folder: <code>{folder}</code></div></div></div>"""

# The runs whose cards training has left in the notebook: folder, and number of the cell.
displayed: dict[Path, int] = {}


def card(
    folder: Path,
    history: Sequence[Epoch],
    settings: Settings,
    session: Session,
    text: str,
    samples: Sequence[str],
) -> str:
    """Return what a notebook shows of a run, in HTML: its curve, a line about it, and its texts."""
    runtime = session.runtime
    where = f"{runtime.backend} ({runtime.model}) on {runtime.device}"
    return CARD.format(
        picture=base64.b64encode(curve.picture({runtime.backend: history})).decode(),
        heading=html.escape(f"{where}: {settings.network}"),
        summary=html.escape(text),
        texts=html.escape("\n\n".join(samples)),
        folder=html.escape(str(folder)),
    )


def notebook_shell() -> Any:
    """Return IPython's shell if this process is the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


class Live(LineReport):
    """In place of lines, the card of a run that is under way; its last state stays."""

    def started(self, event: Started) -> None:
        """Display the card."""
        self.path, self.settings, self.session = Path(event.folder), event.settings, event.session
        self.history, self.drawn = run_folder.history(self.path), time.monotonic()
        display = sys.modules["IPython"].display.display
        data = self._data(f"epoch {self.session.from_epoch + 1} of {self.settings.num_epochs}")
        self.handle = display(data, raw=True, display_id=True)
        displayed[self.path] = notebook_shell().execution_count

    def progress(self, event: Progress) -> None:
        """Show how far the training has come, and the time left."""
        if time.monotonic() - self.drawn >= EVERY:
            so_far = f"{numbers_within(event)}{time_left(event.left)}"
            text = f"epoch {event.epoch} of {self.settings.num_epochs}  {so_far}"
            self.handle.update(self._data(text.rstrip()), raw=True)
            self.drawn = time.monotonic()

    def epoch(self, event: Epoch) -> None:
        """Add the epoch to the curve."""
        self.history.append(event)

    def ended(self, event: Ended) -> None:
        """Leave the last state, which depends on no clock, and say how to go on if interrupted."""
        text = summary(self.history)
        if event.session.outcome == "interrupted":
            last = self.settings.num_epochs
            text += f"; to go on: rnn_scratch.resume({str(self.path)!r}, {last})"
        self.handle.update(self._data(text, event.session.predictions), raw=True)

    def _data(self, text: str, texts: Sequence[str] = ()) -> dict[str, str]:
        # The card, and one line for programs that show no pictures.
        samples = [epoch.sample for epoch in self.history if epoch.sample is not None][-1:]
        arguments = self.history, self.settings, self.session, text, texts or samples
        return {"text/html": card(self.path, *arguments), "text/plain": text}
