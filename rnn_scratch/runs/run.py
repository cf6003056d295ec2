"""A finished run, as Python's `train` and `resume` return it, and as a notebook shows it."""

import base64
import html
from pathlib import Path
from typing import NamedTuple

from ..contract import Arrays
from . import curve
from .folder import Epoch, RunRecord
from .progress import perplexities

# It takes its colors from the page, light or dark.
CARD = """\
<div style="display: flex; flex-wrap: wrap; gap: 0.5em 1.5em; max-width: 60em; padding: 0.7em;
 border: 1px solid rgba(128, 128, 128, 0.5); border-radius: 6px">
<img alt="perplexity against epochs" style="flex: 0 1 28em; min-width: 0; max-width: 100%"
 src="data:image/png;base64,{picture}"/>
<div style="flex: 1 1 18em"><div><b>{heading}</b></div><div>{summary}</div>
<pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.5em 0">{texts}</pre>
<div>run folder: <code>{folder}</code></div></div></div>"""


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
        return f"<Run {self.folder}: {self._summary()}>"

    def _summary(self) -> str:
        last = self.history[-1]
        return f"{last.epoch} epoch{'s' if last.epoch > 1 else ''}, {perplexities(last)}"

    def _repr_html_(self) -> str:
        # What a notebook shows of it: its curve, its numbers and its text.
        settings, session = self.record.settings, self.record.sessions[-1]
        runtime = session.runtime
        where = f"{runtime.backend} ({runtime.model}) on {runtime.device}"
        return CARD.format(
            picture=base64.b64encode(curve.picture({runtime.backend: self.history})).decode(),
            heading=html.escape(f"{where}: {settings.cell}, {settings.num_hiddens} hidden units"),
            summary=self._summary(),
            texts=html.escape("\n\n".join(session.predictions)),
            folder=html.escape(str(self.folder)),
        )


def folder_of(run: Run | str | Path) -> Path:
    """The folder of a run, or its path or that of a checkpoint."""
    return run.folder if isinstance(run, Run) else Path(run)
