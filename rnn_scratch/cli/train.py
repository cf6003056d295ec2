"""The `train` command, with a progress bar on a terminal."""

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.bar import Bar
from rich.table import Table

from .. import api, exact, workers
from ..errors import DivergenceError, RNNScratchError
from ..runs import checkpoint, run_folder
from ..runs.presets import SAMPLE
from ..runs.progress import LineReport, format_progress
from ..settings import option_name
from ..training.events import Ended, Epoch, Progress
from .options import GroupedCommand, derived_options, name_flags, settings_options, specified
from .screen import Screen


class BarReport(LineReport):
    """A report that prints lines and, on a terminal, a progress bar below them."""

    def __init__(self, screen: Screen) -> None:
        """Create a progress bar on `screen`."""
        super().__init__(screen.print_line)
        self.bar = screen.progress_bar()
        self.task = self.bar.add_task("", total=1)

    def log(self, line: str) -> None:
        """Print a message, naming arguments as options."""
        self.print(name_flags(line))

    def progress(self, event: Progress) -> None:
        """Update the bar or, without a terminal, print a line."""
        if self.bar.disable:
            return super().progress(event)
        self.bar.start()
        title = f"epoch {event.epoch}/{self.num_epochs}  {format_progress(event)}"
        self.bar.update(self.task, completed=event.position / self.num_epochs, description=title)

    def ended(self, event: Ended) -> None:
        """Remove the bar and report the end of training."""
        self.bar.stop()
        super().ended(event)


COMMON = "backend preset text variant cell num_hiddens num_epochs output resume quiet"
# What a newcomer who passes no option is told; the duration depends on the machine and backend.
CHAPTER_NOTICE = (
    "Training with the book's settings: 500 epochs, which take about 5 to 20 minutes. For readable "
    "text in a minute or two, use `--preset minute`."
)
# What to do after training; a run with a cosine schedule has ended and cannot be resumed.
NEXT_STEPS = """What next:
rnn-scratch predict {run}  generate more text
rnn-scratch play {run}     watch the network in the browser
rnn-scratch check{space}     verify each function, or your own: check mine.py"""
RESUME_STEP = "rnn-scratch train --resume {run} --num-epochs {num_epochs}"
MAX_BARS = 12  # height of the curve that ends a run on a terminal


@click.command(cls=GroupedCommand, common=COMMON)
@derived_options(api.train)
@click.option(
    "--resume",
    metavar="RUN",
    help="Resume a run, up to --num-epochs epochs in total. [default: the run's --num-epochs]",
)
@click.option("--quiet", is_flag=True, help="Print only the generated text.")
@settings_options()
def train(resume: str | None, quiet: bool, **options: Any) -> None:
    """Train a model on a text and print text that it generates.

    The defaults are the settings of the chapter on recurrent networks in Dive into Deep Learning.

    With --resume, the text and hyperparameters come from the run; a cosine schedule also fixes
    --num-epochs. For the forms of RUN, see `predict --help`. Backend, variant, device, threads and
    patience default to the last session's values; with another backend, only variant and patience
    do.

    To train with several workers, start the command with `mpiexec -n 4` or `srun`.
    """
    screen = Screen()
    report = LineReport(lambda line: None) if quiet else BarReport(screen)
    arguments = specified(options)
    try:
        if resume is None:
            if not arguments.keys() - {"backend", "threads"}:
                report.log(CHAPTER_NOTICE)
            run = api.train(report=report, **arguments)
        else:
            for name in ("preset", "output", "num_updates"):
                if name in arguments:
                    raise RNNScratchError(f"`{option_name(name)}` cannot be used with `--resume`.")
            run = api.resume(resume, report=report, **arguments)
        if workers.is_silent():  # only worker 0 reports the results
            return
        runtime = run.record.sessions[-1].runtime
        sample_options = {**SAMPLE, "device": runtime.device, "eager": runtime.eager}
        sample = api.predict(run, best=run.best is not None, **sample_options)
        if run.record.settings.exact:
            screen.print_line(f"digest {exact.digest(run.arrays)}")
        screen.print_line(sample)
        if not quiet:
            _show_curve(run.history, screen)
            screen.print_line(f"\nThe learning curve: {run.folder / 'perplexity.png'}")
            # `last` is only found in the folder `runs`.
            is_listed = run.folder.resolve().parent == run_folder.PARENT.resolve()
            name = "last" if is_listed else shlex.quote(str(run.folder))
            screen.print_line(NEXT_STEPS.format(run=name, space=" " * len(name)))
            if run.record.settings.schedule == "constant":
                num_epochs = 2 * len(run.history)
                screen.print_line(RESUME_STEP.format(run=name, num_epochs=num_epochs))
    except BaseException as error:
        # A run that diverged would diverge again if resumed.
        if report.folder is not None and not isinstance(error, DivergenceError):
            # If reading the checkpoint also fails, report only the original error.
            with contextlib.suppress(RNNScratchError, OSError):
                interrupted = "Interrupted. " * isinstance(error, KeyboardInterrupt)
                report.log(interrupted + _how_to_resume(report.folder))
        raise


def _show_curve(history: Sequence[Epoch], screen: Screen) -> None:
    """Draw the loss of at most MAX_BARS epochs as bars, on a terminal."""
    step = -(-len(history) // MAX_BARS)
    epochs = history[::-step][::-1]
    losses = [epoch.loss if epoch.valid_loss is None else epoch.valid_loss for epoch in epochs]
    if not screen.is_terminal or len(epochs) < 2:
        return
    title = "training loss" if epochs[-1].valid_loss is None else "held-out loss"
    table = Table("epoch", title, "", box=None, padding=(0, 1))
    for epoch, loss in zip(epochs, losses):
        table.add_row(str(epoch.epoch), f"{loss:.3f}", Bar(max(losses), 0, loss, width=40))
    screen.print()
    screen.print(table)


def _how_to_resume(folder: Path) -> str:
    """Return a message with a stopped run's last checkpoint and the command to resume the run."""
    last, saved = run_folder.read(folder).settings.num_epochs, checkpoint.load(folder)
    if saved.epoch == last:  # a later step failed, such as plotting the curve
        return f"The last checkpoint ({saved.position}) is in {folder}."
    line = shlex.join(["rnn-scratch", "train", "--resume", str(folder), "--num-epochs", str(last)])
    return f"Checkpoint saved at {saved.position}. To resume from there:\n{line}"
