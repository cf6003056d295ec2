"""A run in a notebook: a card with its curve, its numbers and its text, which grows in training.

The last state of the card stays in the notebook, as one output. It takes its colors from the page,
light or dark, and after the training nothing in it depends on a clock. IPython is not imported:
where there is a notebook, it has been.
"""

import base64
import html
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings import Settings
from . import curve
from . import folder as run_folder
from .folder import Epoch, Session
from .progress import numbers, numbers_within, perplexities, time_left
from .runtime import Runtime
from .training import Progress, Report

EVERY = 2.0  # seconds, at least, between two states of the card: to draw one takes about 0.1

CARD = """\
<div style="display: flex; flex-wrap: wrap; gap: 0.5em 1.5em; max-width: 60em; padding: 0.7em;
 border: 1px solid rgba(128, 128, 128, 0.5); border-radius: 6px">
<img alt="perplexity against epochs" style="flex: 0 1 28em; min-width: 0; max-width: 100%"
 src="data:image/png;base64,{picture}"/>
<div style="flex: 1 1 18em"><div><b>{heading}</b></div>
<div style="white-space: pre-wrap">{words}</div>{bar}
<pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.5em 0">{texts}</pre>
<div>run folder: <code>{folder}</code></div></div></div>"""
BAR = '<progress aria-label="training" value="{:.3f}" style="width: 100%"></progress>'

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


def title(settings: Settings, runtime: Runtime) -> str:
    """What is trained, and where."""
    where = f"{runtime.backend} ({runtime.model}) on {runtime.device}"
    return f"{where}: {settings.cell}, {settings.num_hiddens} hidden units"


def summary(history: Sequence[Epoch]) -> str:
    """How many epochs there are, and the last one's perplexities."""
    last = history[-1]
    return f"{last.epoch} epoch{'s' if last.epoch > 1 else ''}, {perplexities(last)}"


def card(
    heading: str,
    words: Sequence[str],
    texts: Sequence[str],
    folder: Path,
    picture: bytes,
    share: float | None = None,
) -> str:
    """The card in HTML, with a picture in PNG.

    `words` are lines about the training, `texts` are by the model. `share` is the part of the
    training that is done, while it is under way.
    """
    return CARD.format(
        picture=base64.b64encode(picture).decode(),
        heading=html.escape(heading),
        words=html.escape("\n".join(words)),
        bar="" if share is None else BAR.format(share),
        texts=html.escape("\n\n".join(texts)),
        folder=html.escape(str(folder)),
    )


class Live(Report):
    """The card of a run that is under way."""

    def say(self, line: str) -> None:
        """Print the message, which the card would not have room for."""
        print(line)

    def start(self, folder: Path, settings: Settings, session: Session) -> None:
        """Display the card."""
        self.folder, self.last, self.backend = folder, settings.num_epochs, session.runtime.backend
        self.heading = title(settings, session.runtime)
        self.history = run_folder.history(folder)
        self.when, self.numbers = f"epoch {session.from_epoch + 1} of {self.last}", ""
        self.done = float(session.from_epoch)  # epochs
        self.handle = sys.modules["IPython"].display.display(
            self._data([self.when], self.done), raw=True, display_id=True
        )
        self.drawn = time.monotonic()
        shown[folder] = shell().execution_count

    def progress(self, progress: Progress) -> None:
        """Show how far the epoch has come, and the time left."""
        when = (f"epoch {progress.epoch} of {self.last}", time_left(progress))
        self.when = ", ".join(filter(None, when))
        self.numbers = numbers_within(progress).rstrip() or self.numbers
        self.done = progress.position
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
        words = [summary(self.history)] if self.history else []
        error = sys.exc_info()[1]  # which is being handled
        if error is not None:
            present = min(int(self.done) + 1, self.last)
            words.append(f"stopped in epoch {present} of {self.last}")
        if isinstance(error, KeyboardInterrupt):
            words.append(f"to go on: rnn_scratch.resume({str(self.folder)!r}, {self.last})")
        self.handle.update(self._data(words), raw=True)

    def finish(self, run: Any) -> None:
        """Replace the card by the run's own."""
        data = {"text/html": run._repr_html_(), "text/plain": repr(run)}
        self.handle.update(data, raw=True)

    def _update_if_due(self) -> None:
        if time.monotonic() - self.drawn >= EVERY:
            self.handle.update(self._data([self.when, self.numbers], self.done), raw=True)
            self.drawn = time.monotonic()

    def _data(self, words: list[str], done: float | None = None) -> dict[str, str]:
        # The card, and one line for programs that show no pictures.
        samples = [epoch.sample for epoch in self.history if epoch.sample is not None][-1:]
        share = None if done is None else done / self.last
        picture = curve.picture({self.backend: self.history}, last=self.last)
        content = card(self.heading, words, samples, self.folder, picture, share)
        return {"text/html": content, "text/plain": "  ".join(words)}
