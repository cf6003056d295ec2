"""Output for the terminal: progress, tables, and the last lines of a training run."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ..contract import VARIANTS
from ..registry import Usable
from ..runs import checkpoint, training
from ..runs import folder as run_folder
from ..runs.folder import Epoch, RunRecord, Session
from ..runs.progress import LineReport, format_perplexity, numbers, numbers_within, time_left
from ..settings import Settings
from ..system import locks
from .screen import Screen


class BarReport(LineReport):
    """Lines on a terminal, and a progress bar below them."""

    def __init__(self, screen: Screen) -> None:
        """Print on this terminal."""
        super().__init__(screen.say)
        self.screen = screen

    def start(self, folder: Path, settings: Settings, session: Session) -> None:
        """Show the bar."""
        super().start(folder, settings, session)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}{task.fields[left]}"),
            console=self.screen,
            transient=True,
        )
        fields: dict[str, Any] = {"epoch": session.from_epoch, "numbers": "", "left": ""}
        self.task = self.bar.add_task("", total=self.last, **fields)
        self.bar.start()

    def progress(self, progress: training.Progress) -> None:
        """Show how far the epoch has come; its number counts as soon as it begins."""
        fields: dict[str, Any] = {"epoch": progress.epoch, "left": time_left(progress)}
        if progress.loss is not None:
            fields["numbers"] = numbers_within(progress)
        self.bar.update(self.task, completed=progress.position, **fields)

    def epoch(self, epoch: Epoch) -> None:
        """Move the bar to the end of an epoch."""
        super().epoch(epoch)
        self.bar.update(self.task, completed=epoch.epoch, numbers=f"{numbers(epoch)}  ")

    def stop(self) -> None:
        """Remove the bar."""
        if hasattr(self, "bar"):
            self.bar.stop()


def ending(history: Sequence[Epoch], session: Session) -> list[str]:
    """The chapter's last lines: perplexity, tokens per second, device, and two continuations."""
    epochs = [row for row in history if row.epoch > session.from_epoch]
    speed = statistics.median(row.tokens / row.seconds for row in epochs)
    perplexity = format_perplexity(epochs[-1].perplexity, 1)
    return [
        f"perplexity {perplexity}, {speed:.1f} tokens/sec on {session.runtime.device}",
        *session.predictions,
    ]


def how_to_resume(folder: Path, interrupted: bool) -> str:
    """The checkpoint that a stopped run has kept, and the command that resumes it."""
    saved = checkpoint.load(folder)
    last = run_folder.read(folder).settings.num_epochs
    line = shlex.join(["rnn-scratch", "train", "--resume", str(folder), "--epochs", str(last)])
    kept = f"{'Interrupted. ' if interrupted else ''}The checkpoint of epoch {saved.epoch}"
    if more := len(saved.incomplete.losses):
        kept += f" and {more} minibatch{'es' if more > 1 else ''} of the next"
    if saved.epoch == last:  # only something after it has failed, such as drawing the curve
        return f"{kept}, the last one, is kept in {folder}."
    return f"{kept} is kept. To resume from there:\n{line}"


def runs_table(runs: Sequence[tuple[Path, RunRecord, list[Epoch]]]) -> Table:
    """The runs, a row each."""
    table = Table("run", "started", "backend", "text", "epochs", "perplexity", "state", box=None)
    for folder, record, history in runs:
        session = record.sessions[-1]
        runtime = session.runtime
        last = history[-1].epoch if history else 0
        table.add_row(
            str(folder),
            f"{session.started.astimezone():%Y-%m-%d %H:%M}",
            runtime.backend + ("" if runtime.model == VARIANTS[0] else f" ({runtime.model})"),
            record.text.corpus,
            f"{last}/{record.settings.num_epochs}",
            format_perplexity(history[-1].perplexity) if history else "",
            _state(folder, session.outcome),
        )
    return table


def _state(folder: Path, outcome: str) -> str:
    if outcome != "running" or locks.is_held(folder):
        return outcome
    return "killed"  # which the session could not record


def backends_table(probes: Mapping[str, Usable | str]) -> Table:
    """The backends, a row each, with the reason why one does not load, and what to do."""
    table = Table("backend", "usable", "devices", "versions", "what to do", box=None)
    for name, probe in probes.items():
        if isinstance(probe, str):
            table.add_row(name, "no", "", "", probe)
        else:
            versions = ", ".join(f"{key} {value}" for key, value in probe.environment.items())
            table.add_row(name, "yes", ", ".join(probe.devices), versions, "")
    return table
