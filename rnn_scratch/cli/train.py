"""The command `train`, with a progress bar on a terminal."""

import contextlib
import shlex
from pathlib import Path
from typing import Any

import click
from rich import progress as bars

from .. import api, exact
from ..errors import DivergenceError, RNNScratchError
from ..runs import checkpoint, run_folder
from ..runs.presets import PRESETS, SAMPLE, override
from ..runs.progress import LineReport, format_progress
from ..runs.run import Run
from ..training.events import Ended, Progress
from .options import function_options, name_flags, settings_options, specified
from .screen import Screen


class BarReport(LineReport):
    """Print lines and, on a terminal, a progress bar below them."""

    def __init__(self, screen: Screen) -> None:
        """Set the screen to print to, and create the bar."""
        super().__init__(screen.print_line)
        columns, is_off = (bars.BarColumn(), "{task.description}"), not screen.is_terminal
        self.bar = bars.Progress(*columns, console=screen, transient=True, disable=is_off)
        self.task = self.bar.add_task("")

    def log(self, line: str) -> None:
        """Print a message."""
        self.print(name_flags(line, train))

    def progress(self, event: Progress) -> None:
        """Update the bar or, without a terminal, print a line."""
        if self.bar.disable:
            return super().progress(event)
        metrics = format_progress(event)
        title = f"epoch {event.epoch}/{self.num_epochs}  {metrics}"
        self.bar.start()
        total = self.num_epochs
        self.bar.update(self.task, total=total, completed=event.position, description=title)

    def ended(self, event: Ended) -> None:
        """Remove the bar, and report the end of training."""
        self.bar.stop()
        super().ended(event)


# Headings in the help, each with its options; the remaining options follow.
GROUPS = {
    "Data": "corpus text normalize max_tokens valid_tokens valid_share batch_size num_steps "
    "sampling",
    "Model": "model cell num_hiddens num_layers embedding dropout sigma dtype exact",
    "Training": "num_epochs num_updates optimizer lr schedule warmup weight_decay theta patience "
    "seed",
    "Run": "preset resume run backend device threads eager",
}


class TrainCommand(click.Command):
    """The command `train`, whose help groups the options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under the headings in `GROUPS`."""
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        groups = {title: map(records.pop, names.split()) for title, names in GROUPS.items()}
        for title, group in [*groups.items(), ("Other options", records.values())]:
            with formatter.section(title):
                formatter.write_dl([record for record in group if record])


@click.command(cls=TrainCommand)
@function_options(api.train)
@click.option(
    "--resume",
    metavar="RUN",
    help="Resume the run in this folder or with this short name (`rnn-scratch runs`), and train "
    "until --num-epochs, the total number of epochs.",
)
@click.option(
    "--preset",
    type=click.Choice([*PRESETS]),
    help="Use a named set of options and print it. Other options override it. "
    "chapter: the defaults; minute: readable text in a minute or two, from the built-in text; "
    "shakespeare: a good network for tiny-shakespeare in a few minutes.",
)
@settings_options()
def train(resume: str | None, preset: str | None, **options: Any) -> None:
    """Train a model on a text and print text that it generates.

    The defaults are the settings of the chapter on recurrent networks in Dive into Deep Learning.

    With --resume, the text and the hyperparameters come from the run. The backend, model, device,
    number of threads and patience default to the last session's values; with another backend, only
    the model and the patience do.

    To train with several workers, start the command with `mpiexec -n 4` or `srun`.
    """
    screen = Screen()
    report = BarReport(screen)
    arguments = specified(options)
    try:
        if resume is None:
            if preset is not None:
                given, arguments = arguments, override(preset, arguments)
                values = (f"{key}={arguments[key]}" for key in arguments if key not in given)
                report.log(f"preset {preset}: {', '.join(values) or 'the defaults'}")
            run = api.train(report=report, **arguments)
        elif preset is not None or "run" in arguments:
            problem = "`--resume` cannot be used together with `--preset` or `--run`."
            raise RNNScratchError(problem, "Omit these options.")
        elif "num_epochs" not in arguments:
            raise RNNScratchError("`--resume` requires `--num-epochs`, the total number of epochs.")
        else:
            run = api.resume(resume, report=report, **arguments)
        if run is None:  # this process is a worker other than worker 0
            return
        text = _results(run)
    except BaseException as error:
        # A run that diverged would diverge again if resumed.
        if report.folder is not None and not isinstance(error, DivergenceError):
            # If reading the checkpoint also fails, report the first error.
            with contextlib.suppress(RNNScratchError, OSError):
                interrupted = "Interrupted. " * isinstance(error, KeyboardInterrupt)
                report.log(interrupted + _how_to_resume(report.folder))
        raise
    screen.print_line(text)


def _results(run: Run) -> str:
    # Return a sample of the model's text, preceded by the digest in exact mode.
    runtime = run.record.sessions[-1].runtime
    options = {**SAMPLE, "device": runtime.device, "eager": runtime.eager}
    text = api.predict(run, best=run.best is not None, **options)
    if not run.record.settings.exact:
        return text
    return f"digest {exact.digest(run.arrays)}\n{text}"


def _how_to_resume(folder: Path) -> str:
    # Describe the checkpoint of a stopped run and the command that resumes the run.
    last, (saved, _) = run_folder.read(folder).settings.num_epochs, checkpoint.latest(folder)
    assert saved is not None  # a session starts by saving a checkpoint
    if saved.epoch == last:  # a later step failed, such as plotting the curve
        return f"The checkpoint of {saved.position}, the last one, is in {folder}."
    line = shlex.join(["rnn-scratch", "train", "--resume", str(folder), "--num-epochs", str(last)])
    return f"Checkpoint saved at {saved.position}. To resume from there:\n{line}"
