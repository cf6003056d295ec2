"""Report training progress as lines of text or, in a notebook, as a live plot."""

import datetime
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..system.terminal import LogLine
from ..training import events
from ..training.events import Ended, Epoch, Progress, Report, Started
from . import curve, run_folder

MAX_LINES = 50  # in longer runs, only epochs with a sample have a line


class LineReport(Report):
    """A report that prints each epoch's metrics and sample, and the final results."""

    interval = 30.0  #: progress within an epoch is shown after this many seconds without output

    def __init__(self, print_line: LogLine) -> None:
        """Set the function that receives each line."""
        self.print = print_line
        self.folder: Path | None = None  # run folder, set when training starts

    def log(self, line: str) -> None:
        """Print a message."""
        self.print(line)

    def started(self, event: Started) -> None:
        """Print the model, device and run folder."""
        self.folder, self.num_epochs = Path(event.folder), event.settings.num_epochs
        self.epochs: list[Epoch] = []
        self.show_time = time.monotonic()
        runtime = event.session.runtime
        workers = f"workers: {runtime.workers}, " if runtime.workers > 1 else ""
        epochs = f"epochs {event.session.from_epoch + 1} to {self.num_epochs}"
        self.print(
            f"{runtime.backend} ({runtime.variant}) on {runtime.device}, {workers}"
            f"threads: {runtime.threads}, {epochs}, run folder: {event.folder}"
        )

    def progress(self, event: Progress) -> None:
        """Show progress within an epoch if nothing has been shown for `interval` seconds."""
        is_due = time.monotonic() - self.show_time >= self.interval
        if is_due and event.seconds_left is not None:
            trained_part = f"{event.num_trained:,} of {event.total:,} minibatches"
            self.show(f"epoch {event.epoch}: {trained_part}  {format_progress(event)}")

    def epoch(self, event: Epoch) -> None:
        """Print an epoch's losses, its duration and, below them, the sample, if any."""
        self.epochs.append(event)
        if event.sample or self.num_epochs <= MAX_LINES:
            losses = f"training loss {event.loss:.3f}"
            if event.valid_loss is not None:
                losses += f"  held-out loss {event.valid_loss:.3f}"
            number = f"{event.epoch:>{len(str(self.num_epochs))}}/{self.num_epochs}"
            self.show(f"epoch {number}  {losses}  {event.seconds:.1f} s")
        if event.sample:
            self.print(f"  {event.sample!r}")

    def ended(self, event: Ended) -> None:
        """Print a finished session's speed and the losses of its last and best epochs."""
        if event.session.outcome != "finished":
            return
        epoch, best = self.epochs[-1], event.best
        speed = statistics.median(row.tokens / row.seconds for row in self.epochs)
        device = event.session.runtime.device
        self.print(f"epoch {epoch.epoch}, speed {speed:,.0f} characters/s on {device}")
        self.print(f"training loss  {format_loss(epoch.loss, epoch.perplexity)}")
        if epoch.valid_loss is None or best is None or best.valid_loss is None:
            return
        mark = " (best)" if best.epoch == epoch.epoch else ""
        self.print(f"held-out loss  {format_loss(epoch.valid_loss, epoch.valid_perplexity)}{mark}")
        if not mark:
            lowest_loss = format_loss(best.valid_loss, best.valid_perplexity)
            self.print(f"best: epoch {best.epoch:<2} {lowest_loss}")

    def show(self, line: str) -> None:
        """Print a line of metrics."""
        self.print(line)
        self.show_time = time.monotonic()


def notebook_shell() -> Any:
    """Return IPython's shell if this process is a notebook kernel, otherwise None."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


class LivePlot(LineReport):
    """A report that shows a run's curve and a line of metrics instead of printing lines."""

    interval = 2.0  # updating the plot takes about 0.1 s

    def started(self, event: Started) -> None:
        """Display the current curve."""
        self.backend = event.session.runtime.backend
        self.epochs = run_folder.read_history(Path(event.folder))
        display, title = sys.modules["IPython"].display.display, format_history(self.epochs)
        self.handle = display(self._data(title), raw=True, display_id=True)
        self.show_time = time.monotonic()

    def epoch(self, event: Epoch) -> None:
        """Add the epoch to the curve."""
        self.epochs.append(event)

    def ended(self, event: Ended) -> None:
        """Display the run's complete curve and final metrics."""
        self.show(format_history(self.epochs))

    def show(self, line: str) -> None:
        """Update the curve, using a line of metrics as its title."""
        self.handle.update(self._data(line), raw=True)
        self.show_time = time.monotonic()

    def _data(self, title: str) -> dict[str, Any]:
        picture = curve.picture({self.backend: self.epochs}, title)
        return {"image/png": picture, "text/plain": title}


def format_nats(nats: float) -> str:
    """Format a mean loss in nats and bits."""
    return f"{nats:.3f} nats, {nats / math.log(2):.3f} bits per character"


def format_loss(nats: float, perplexity: float | None) -> str:
    """Format a mean loss in nats and bits, followed by a perplexity."""
    return f"{format_nats(nats)}, perplexity {format_perplexity(perplexity)}"


def format_progress(progress: Progress) -> str:
    """Format an epoch's perplexity and speed so far, and the time left, if known."""
    parts = []
    if progress.loss is not None:
        perplexity_so_far = format_perplexity(events.perplexity(progress.loss))
        speed = progress.tokens / progress.seconds
        parts.append(f"perplexity {perplexity_so_far} so far  {speed:,.0f} characters/s")
    if progress.seconds_left is not None:
        parts.append(f"time left {datetime.timedelta(seconds=round(progress.seconds_left))}")
    return "  ".join(parts)


def format_perplexities(epoch: Epoch) -> str:
    """Format an epoch's perplexities on the training text and, if any, the held-out text."""
    text = f"perplexity {format_perplexity(epoch.perplexity)}"
    if epoch.valid_loss is not None:
        text += f" (held out {format_perplexity(epoch.valid_perplexity)})"
    return text


def format_perplexity(perplexity: float | None) -> str:
    """Format a perplexity with two decimal places, or in scientific notation if it is large."""
    if perplexity is None:
        return "above 1e300"
    return f"{perplexity:.2f}" if perplexity < 1000 else f"{perplexity:.2e}"


def format_history(history: Sequence[Epoch]) -> str:
    """Format the number of epochs and the last epoch's perplexities."""
    if not history:
        return "no epoch yet"
    epoch = history[-1]
    return f"{epoch.epoch} epoch{'s' if epoch.epoch > 1 else ''}, {format_perplexities(epoch)}"
