"""Report the progress of training as lines of text, for a function such as `print`."""

import datetime
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from ..system.terminal import LogLine
from ..training import events
from ..training.events import Ended, Epoch, Progress, Report, Started
from ..training.loop import SAMPLE_EVERY

QUIET = 30.0  # seconds after which a line is due, also within an epoch


class LineReport(Report):
    """Print every tenth epoch, with a sample of the model's text, and the results."""

    def __init__(self, print_line: LogLine) -> None:
        """Pass all lines to `print_line`."""
        self.print = print_line
        self.folder: Path | None = None  # folder of the run, once training has begun

    def log(self, line: str) -> None:
        """Print a message."""
        self.print(line)

    def started(self, event: Started) -> None:
        """Print the model, the device and the folder."""
        self.folder, self.session = Path(event.folder), event.session
        self.last = event.settings.num_epochs
        self.epochs: list[Epoch] = []
        self.printed = time.monotonic()
        session, runtime = event.session, event.session.runtime
        workers = f"workers: {runtime.workers}, " if runtime.workers > 1 else ""
        self.print(
            f"{runtime.backend} ({runtime.model}) on {runtime.device}, {workers}"
            f"threads: {runtime.threads}, epochs {session.from_epoch + 1} to {self.last}, "
            f"run folder: {event.folder}"
        )

    def progress(self, event: Progress) -> None:
        """Print the progress within the epoch if no line has been printed for a while."""
        if event.left is not None and time.monotonic() - self.printed >= QUIET:
            self.print(
                f"epoch {event.epoch}: {event.done:,} of {event.total:,} minibatches  "
                f"{numbers_within(event)}{time_left(event.left)}"
            )
            self.printed = time.monotonic()

    def epoch(self, event: Epoch) -> None:
        """Print the metrics of every tenth epoch; `ended` prints the last epoch's metrics."""
        self.epochs.append(event)
        if event.epoch % SAMPLE_EVERY == 0 and event.epoch < self.last:
            sample = f"  {event.sample!r}" if event.sample else ""
            self.print(f"epoch {event.epoch:>{len(str(self.last))}}  {perplexities(event)}{sample}")
            self.printed = time.monotonic()

    def ended(self, event: Ended) -> None:
        """Print the results: speed, and losses on both texts, of the last and the best epoch."""
        if event.session.outcome != "finished":
            return
        last, best = self.epochs[-1], event.best
        speed = statistics.median(epoch.tokens / epoch.seconds for epoch in self.epochs)
        self.print(f"epoch {last.epoch}: {speed:,.0f} tokens/s on {self.session.runtime.device}")
        self.print(f"training text  {quality(last.loss, last.perplexity)}")
        if last.valid_loss is None or best is None or best.valid_loss is None:
            return
        is_best = " (best)" if best.epoch == last.epoch else ""
        self.print(f"held-out text  {quality(last.valid_loss, last.valid_perplexity)}{is_best}")
        if not is_best:
            lowest = quality(best.valid_loss, best.valid_perplexity)
            self.print(f"best: epoch {best.epoch:<2} {lowest}")


def losses(nats: float) -> str:
    """Return a mean loss in nats and in bits."""
    return f"{nats:.3f} nats, {nats / math.log(2):.3f} bits per character"


def quality(nats: float, perplexity: float | None) -> str:
    """Return a mean loss in nats and in bits, and the perplexity."""
    return f"{losses(nats)}, perplexity {format_perplexity(perplexity)}"


def time_left(seconds: float | None) -> str:
    """Return the time to the end of training, or nothing if it is unknown."""
    return "" if seconds is None else f"time left {datetime.timedelta(seconds=round(seconds))}"


def numbers_within(progress: Progress) -> str:
    """Return perplexity and speed within an epoch, or nothing before its first minibatch."""
    if progress.loss is None:
        return ""
    so_far = format_perplexity(events.perplexity(progress.loss))
    speed = progress.tokens / progress.seconds
    return f"perplexity {so_far} so far  {speed:,.0f} tokens/s  "


def perplexities(epoch: Epoch) -> str:
    """Return the perplexities of an epoch on the training text and the held-out text."""
    held_out = ""
    if epoch.valid_loss is not None:
        held_out = f" (held out {format_perplexity(epoch.valid_perplexity)})"
    return f"perplexity {format_perplexity(epoch.perplexity)}{held_out}"


def format_perplexity(perplexity: float | None) -> str:
    """Return a perplexity with two digits after the point, or with an exponent if it is large."""
    if perplexity is None:
        return "above 1e300"
    return f"{perplexity:.2f}" if perplexity < 1000 else f"{perplexity:.2e}"


def summary(history: Sequence[Epoch]) -> str:
    """Return the number of epochs and the last perplexities."""
    if not history:
        return "no epoch yet"
    last = history[-1]
    return f"{last.epoch} epoch{'s' if last.epoch > 1 else ''}, {perplexities(last)}"
