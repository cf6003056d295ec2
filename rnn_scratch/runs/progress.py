"""The progress of training as lines of text, for any function that takes one, such as `print`."""

import datetime
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..system.terminal import Say
from . import run_folder, training
from .events import Ended, Progress, Report, Started
from .run_folder import Epoch
from .training import SAMPLE_EVERY

QUIET = 30.0  # seconds after which a line is due, within an epoch too


class LineReport(Report):
    """Passes on lines: every tenth epoch, with a sample of the model's text, and the results."""

    def __init__(self, print_line: Say, translate: Callable[[str], str] = str) -> None:
        """Pass each line to `print_line`; `translate` messages, which may name options."""
        self.print, self._translate = print_line, translate
        self.folder: Path | None = None  # of the run, once training has begun

    def say(self, line: str) -> None:
        """Pass on the message."""
        self.print(self._translate(line))

    def started(self, event: Started) -> None:
        """Say what is trained, and where."""
        self.folder, self.session = Path(event.folder), event.session
        self.last = event.settings.num_epochs
        self.epochs: list[Epoch] = []
        self.said = time.monotonic()
        session, runtime = event.session, event.session.runtime
        workers = f"workers: {runtime.workers}, " if runtime.workers > 1 else ""
        self.print(
            f"{runtime.backend} ({runtime.model}) on {runtime.device}, {workers}"
            f"threads: {runtime.threads}, epochs {session.from_epoch + 1} to {self.last}, "
            f"run folder: {event.folder}"
        )

    def progress(self, event: Progress) -> None:
        """Say how far the epoch has come if there has been no line for a while."""
        if event.left is not None and time.monotonic() - self.said >= QUIET:
            self.print(
                f"epoch {event.epoch}: {event.done:,} of {event.total:,} minibatches  "
                f"{numbers_within(event)}{time_left(event.left)}"
            )
            self.said = time.monotonic()

    def epoch(self, event: Epoch) -> None:
        """Say the numbers of every tenth epoch; the last one's are those of the end."""
        self.epochs.append(event)
        if event.epoch % SAMPLE_EVERY == 0 and event.epoch < self.last:
            sample = f"  {event.sample!r}" if event.sample else ""
            self.print(f"epoch {event.epoch:>{len(str(self.last))}}  {numbers(event)}{sample}")
            self.said = time.monotonic()

    def ended(self, event: Ended) -> None:
        """Say the results: speed, and how well both texts are predicted, now and at best."""
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
    """Return a mean loss in two units: with the natural logarithm, and with that to base 2."""
    return f"{nats:.3f} nats, {nats / math.log(2):.3f} bits per character"


def quality(nats: float, perplexity: float | None) -> str:
    """Return a mean loss in two units, and the perplexity."""
    return f"{losses(nats)}, perplexity {format_perplexity(perplexity)}"


def time_left(seconds: float | None) -> str:
    """Return the time to the end of the training, once it can be estimated."""
    return "" if seconds is None else f"time left {datetime.timedelta(seconds=round(seconds))}"


def numbers_within(progress: Progress) -> str:
    """Return perplexity and speed so far, and a space, in an epoch that has begun."""
    if progress.loss is None:
        return ""
    so_far = format_perplexity(training.perplexity(progress.loss))
    speed = progress.tokens / progress.seconds
    return f"perplexity {so_far} so far  {speed:,.0f} tokens/s  "


def numbers(epoch: Epoch) -> str:
    """Return perplexity and speed of an epoch in one line."""
    return f"{perplexities(epoch)}  {epoch.tokens / epoch.seconds:,.0f} tokens/s"


def perplexities(epoch: Epoch) -> str:
    """Return the perplexity of an epoch, and that of the held-out text if there is one."""
    held_out = ""
    if epoch.valid_loss is not None:
        held_out = f" (held out {format_perplexity(epoch.valid_perplexity)})"
    return f"perplexity {format_perplexity(epoch.perplexity)}{held_out}"


def format_perplexity(perplexity: float | None) -> str:
    """Return a perplexity with two digits after the point; large ones with an exponent."""
    if perplexity is None:
        return "above 1e300"
    return f"{perplexity:.2f}" if perplexity < 1000 else f"{perplexity:.2e}"


def summary(history: Sequence[Epoch]) -> str:
    """Return how many epochs there are, the last perplexities, and an earlier best epoch."""
    if not history:
        return "no epoch yet"
    last, best = history[-1], run_folder.best(history)
    earlier = ""
    if best is not None and best is not last:
        lowest = format_perplexity(best.valid_perplexity)
        earlier = f", best held out {lowest} after epoch {best.epoch}"
    return f"{last.epoch} epoch{'s' if last.epoch > 1 else ''}, {perplexities(last)}{earlier}"
