"""A run as Python's `train` and `resume` return it, and its card in a notebook.

The card is there while the run is trained, and its curve grows.
"""

import base64
import html
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..contract import Arrays
from ..settings import Settings
from . import catalog, curve, run_folder
from .progress import LineReport, format_perplexity, numbers_within, perplexities, time_left
from .run_folder import Epoch, RunRecord, Session
from .training import Progress

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
shown: dict[Path, int] = {}


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
        texts = session.predictions
        return card(self.folder, self.history, settings, session, summary(self.history), texts)

    def _ipython_display_(self) -> None:
        # Not a second time below its training. The error lets IPython go on to the other forms.
        if shown.get(self.folder) != sys.modules["IPython"].get_ipython().execution_count:
            raise NotImplementedError


def summary(history: Sequence[Epoch]) -> str:
    """How many epochs there are, the last one's perplexities, and an earlier one that was best."""
    if not history:
        return "no epoch yet"
    last, best = history[-1], run_folder.best(history)
    earlier = ""
    if best is not None and best is not last:
        lowest = format_perplexity(best.valid_perplexity)
        earlier = f", best held out {lowest} after epoch {best.epoch}"
    return f"{last.epoch} epoch{'s' if last.epoch > 1 else ''}, {perplexities(last)}{earlier}"


def card(
    folder: Path,
    history: Sequence[Epoch],
    settings: Settings,
    session: Session,
    text: str,
    samples: Sequence[str],
) -> str:
    """What a notebook shows of a run, in HTML: its curve, a line about it, and its own texts."""
    runtime = session.runtime
    where = f"{runtime.backend} ({runtime.model}) on {runtime.device}"
    return CARD.format(
        picture=base64.b64encode(curve.picture({runtime.backend: history})).decode(),
        heading=html.escape(f"{where}: {settings.network}"),
        summary=html.escape(text),
        texts=html.escape("\n\n".join(samples)),
        folder=html.escape(str(folder)),
    )


def folder_of(run: Run | str | Path) -> Path:
    """The folder of a run, or of one by its path or short name; or the path of a checkpoint.

    Raises RNNScratchError as `catalog.find` does.
    """
    return run.folder if isinstance(run, Run) else catalog.find(Path(run))


def notebook_shell() -> Any:
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
        shown[folder] = notebook_shell().execution_count

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
