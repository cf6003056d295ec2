"""A finished run, as Python's `train` and `resume` return it, and as a notebook shows it."""

import base64
import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..contract import Arrays
from ..settings import Settings
from . import catalog, curve
from . import folder as run_folder
from .folder import Epoch, RunRecord, Session
from .progress import format_perplexity, perplexities

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
