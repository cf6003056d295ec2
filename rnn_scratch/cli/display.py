"""What a person at the terminal sees: progress, tables, the words at the end."""

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..runs import checkpoint
from ..runs import folder as run_folder
from ..runs.folder import Epoch
from ..runs.training import SAMPLE_EVERY, Report
from ..settings import Settings


def console(stderr: bool = False) -> Console:
    """The terminal, or the pipe in its place, where no line is cut to a width."""
    # No emoji: a text's :key: is no picture.
    screen = Console(highlight=False, markup=False, emoji=False, stderr=stderr)
    if not screen.is_terminal:
        screen.width = 10_000
    return screen


class Lines(Report):
    """Progress as lines: each tenth epoch and the last, with what the model writes by then."""

    def __init__(self, screen: Console) -> None:
        """Print on this console."""
        self.screen = screen
        self.folder: Path | None = None

    def say(self, line: str) -> None:
        """Print it."""
        self.screen.print(line, soft_wrap=True)

    def start(self, folder: Path, settings: Settings, session: dict[str, Any], first: int) -> None:
        """Say what is trained where."""
        self.folder, self.last = folder, settings.num_epochs
        self.say(
            f"{session['backend']} ({session['model']}) on {session['device']}, threads: "
            f"{session['threads']}, epochs {first} to {self.last}, run folder: {folder}"
        )

    def epoch(self, epoch: Epoch) -> None:
        """Print an epoch that is shown."""
        if epoch.epoch % SAMPLE_EVERY == 0 or epoch.epoch == self.last:
            self.say(f"epoch {epoch.epoch:>{len(str(self.last))}}  {numbers(epoch)}"
                     + (f"  {epoch.sample!r}" if epoch.sample else ""))  # fmt: skip


class Bar(Lines):
    """The same, with a live bar under the lines."""

    def start(self, folder: Path, settings: Settings, session: dict[str, Any], first: int) -> None:
        """Show the bar."""
        super().start(folder, settings, session, first)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=self.screen,
            transient=True,
        )
        self.task = self.progress.add_task(
            "", total=self.last, completed=first - 1, epoch=first - 1, numbers=""
        )
        self.done, self.inside, self.tokens = first - 1, 0, 0
        self.progress.start()

    def minibatch(self, X: np.ndarray, Y: np.ndarray) -> None:
        """Move the bar within an epoch, once it is known how long one is."""
        self.inside += X.size
        if self.tokens:
            part = min(self.inside / self.tokens, 1)
            self.progress.update(self.task, completed=self.done + part)

    def epoch(self, epoch: Epoch) -> None:
        """Move the bar to the end of an epoch."""
        super().epoch(epoch)
        self.done, self.inside, self.tokens = epoch.epoch, 0, epoch.tokens
        self.progress.update(
            self.task, completed=epoch.epoch, epoch=epoch.epoch, numbers=numbers(epoch)
        )

    def stop(self) -> None:
        """Take the bar away."""
        if hasattr(self, "progress"):
            self.progress.stop()


def numbers(epoch: Epoch) -> str:
    """Perplexity and speed of an epoch in one line."""
    held_out = ""
    if epoch.valid_loss is not None:
        held_out = f" (held out {shown(epoch.valid_perplexity)})"
    speed = epoch.tokens / epoch.seconds
    return f"perplexity {shown(epoch.perplexity)}{held_out}  {speed:,.0f} tokens/s"


def shown(perplexity: float | None) -> str:
    """A perplexity in few digits."""
    if perplexity is None:
        return "above 1e300"
    return f"{perplexity:.2f}" if perplexity < 1000 else f"{perplexity:.2e}"


def ending(history: Sequence[Epoch], session: dict[str, Any]) -> list[str]:
    """The chapter's last lines: perplexity, tokens per second, device, and two continuations."""
    own = [row for row in history if row.epoch > session["from_epoch"]]
    speed = statistics.median(row.tokens / row.seconds for row in own)
    last = own[-1].perplexity
    perplexity = f"{last:.1f}" if last is not None and last < 1000 else shown(last)
    return [
        f"perplexity {perplexity}, {speed:.1f} tokens/sec on {session['device']}",
        *session["predictions"],
    ]


def how_to_go_on(folder: Path, interrupted: bool) -> str:
    """What is kept of a run that has stopped, and the command that goes on with it."""
    saved = checkpoint.load(checkpoint.find(folder))
    last = run_folder.read(folder)["settings"]["num_epochs"]
    line = shlex.join(["rnn-scratch", "train", "--resume", str(folder), "--epochs", str(last)])
    kept = f"{'Interrupted. ' if interrupted else ''}The checkpoint of epoch {saved.epoch}"
    if saved.epoch == last:  # only the picture, say, was not drawn any more
        return f"{kept}, the last one, is kept in {folder}."
    return f"{kept} is kept. To go on from there:\n{line}"


def runs_table(found: Sequence[tuple[Path, dict[str, Any], list[Epoch]]]) -> Table:
    """The runs, a row each."""
    table = Table("run", "started", "backend", "text", "epochs", "perplexity", "state", box=None)
    for folder, record, history in found:
        session = record["sessions"][-1]
        state = session["outcome"]
        # A session that was killed could not say so.
        state = "running, or killed" if state == "running" else state
        done = history[-1].epoch if history else 0
        table.add_row(
            str(folder),
            session["started"][:16].replace("T", " "),
            session["backend"]
            + ("" if session["model"] == "scratch" else f" ({session['model']})"),
            record["text"]["corpus"],
            f"{done}/{record['settings']['num_epochs']}",
            shown(history[-1].perplexity) if history else "",
            state,
        )
    return table


def backends_table(probes: dict[str, dict[str, Any]]) -> Table:
    """The backends, a row each, with what installs those that are missing."""
    table = Table("backend", "ready", "devices", "versions", "what to do", box=None)
    for name, found in probes.items():
        if found["ready"]:
            versions = ", ".join(f"{key} {value}" for key, value in found["environment"].items())
            table.add_row(name, "yes", ", ".join(found["devices"]), versions, "")
        else:
            table.add_row(name, "no", "", "", found["reason"])
    return table
