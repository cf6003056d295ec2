"""The command `train`, with a progress bar on a terminal."""

import contextlib
import inspect
import shlex
from pathlib import Path
from typing import Any

import click

from .. import api, exact
from ..check import growth
from ..errors import RNNScratchError
from ..runs import checkpoint, inference, presets, run_folder
from ..runs.events import Ended, Progress, Started
from ..runs.presets import PRESETS, SAMPLE
from ..runs.progress import LineReport, numbers_within, perplexities, time_left
from ..runs.run import Run, folder_of
from ..runs.run_folder import Epoch
from ..runs.training import Diverged
from ..settings import option_of
from ..text import dataset
from ..workers import launch
from ..workers.launch import COORDINATOR, WAIT
from .options import option, runtime_options, settings_options, specified, text_options
from .screen import Screen


class BarReport(LineReport):
    """Lines on a terminal, and a progress bar below them."""

    def __init__(self, screen: Screen) -> None:
        """Print on this terminal."""
        super().__init__(screen.say)
        self.screen = screen

    def started(self, event: Started) -> None:
        """Show the bar."""
        super().started(event)
        self.bar = self.screen.bar()
        self.task = self.bar.add_task("", total=self.last, numbers="", left="")
        self.bar.start()

    def progress(self, event: Progress) -> None:
        """Show how far the epoch has come; its number counts as soon as it begins."""
        fields = {"numbers": numbers_within(event)} if event.loss is not None else {}
        self._move(event.epoch, event.position, left=time_left(event.left), **fields)

    def epoch(self, event: Epoch) -> None:
        """Move the bar to the end of an epoch."""
        super().epoch(event)
        self._move(event.epoch, event.epoch, numbers=f"{perplexities(event)}  ")

    def _move(self, epoch: int, position: float, **fields: Any) -> None:
        title = f"epoch {epoch}/{self.last}"
        self.bar.update(self.task, completed=position, description=title, **fields)

    def ended(self, event: Ended) -> None:
        """Remove the bar."""
        self.bar.stop()
        super().ended(event)


@click.command()
@runtime_options(
    backend="torch, or numpy without PyTorch",
    model="scratch",
    device="auto",
    threads="1 for a small network, else the framework's choice",
)
@option("workers", metavar="N", implied="1")
@option(
    "rank",
    "Start only worker K, from 0 to N-1. Run the same command with the other ranks, here or on "
    "other machines.",
    metavar="K",
)
@option(
    "coordinator",
    "With --rank or a launcher: where worker 0 waits for the others. The connection is not "
    "encrypted: use private networks only.",
    metavar="HOST:PORT",
    implied=COORDINATOR,
)
@option(
    "wait",
    "With --rank or a launcher: how long to wait for the other workers before training starts.",
    metavar="SECONDS",
    implied=f"{WAIT:g}",
)
@option("patience", metavar="N", implied="0; with --resume: the run's")
@click.option(
    "--resume",
    metavar="RUN",
    help="Resume the run in this folder or with this short name (`rnn-scratch runs`). Requires "
    "--epochs, the total number of epochs.",
)
@click.option("--run", metavar="FOLDER", help="Folder of the run.  [default: a new one in runs/]")
@click.option(
    "--preset",
    type=click.Choice([*PRESETS]),
    help="Use a named set of options and print it. Other options override it. "
    "chapter: the defaults; minute: readable text in a minute or two; shakespeare: a good network "
    "for --corpus tiny-shakespeare in a few minutes; long: a better network in 15 minutes.",
)
@click.option(
    "--like",
    metavar="RUN",
    help="Start a new run with the settings, text, backend, model and patience of this run. Other "
    "options override them.",
)
@text_options()
@option("eager")
@settings_options()
def train(
    resume: str | None,
    run: str | None,
    preset: str | None,
    like: str | None,
    workers: int | None,
    rank: int | None,
    coordinator: str | None,
    wait: float | None,
    **options: Any,
) -> None:
    """Train a model on a text and print text that it generates.

    The defaults are the settings of the chapter on recurrent networks in Dive into Deep Learning.

    With --resume, the text and the hyperparameters come from the run. The backend, model, device,
    number of threads, workers and patience default to the run's.
    """
    screen = Screen()
    report = BarReport(screen) if screen.is_terminal else LineReport(screen.say)
    chosen = launch.chosen(workers, rank, coordinator, wait)
    arguments = specified(options)
    try:
        begun = specified({"preset": preset, "like": like, "resume": resume})
        if len(begun) > 1:
            first, second, *_ = map(option_of, begun)
            raise RNNScratchError(
                f"`{first}` and `{second}` cannot be used together.", "Choose one."
            )
        if preset is not None:
            arguments = _based_on(PRESETS[preset], arguments)
        if like is not None:
            arguments = _based_on(presets.like(run_folder.read(folder_of(like))), arguments)
        if begun and resume is None:
            words = ["rnn-scratch", "train"]
            for name, value in specified({"run": run, **arguments}).items():
                words += [option_of(name)] if value is True else [option_of(name), str(value)]
            report.say(f"{f'preset {preset}' if preset else f'like {like}'}: {shlex.join(words)}")
        if resume is None:
            done = inspect.unwrap(api.train)(
                report=report, workers=chosen or 1, run=run, **arguments
            )
        elif run is not None:
            raise RNNScratchError("`--resume` continues in the run's folder.", "Omit `--run`.")
        elif "num_epochs" not in arguments:
            raise RNNScratchError("`--resume` requires `--epochs N`, the total number of epochs.")
        else:
            done = inspect.unwrap(api.resume)(resume, report=report, workers=chosen, **arguments)
        text = _results(done) if done else "training is complete; worker 0 has the run"
    except BaseException as error:
        # A run that has diverged would diverge again.
        if report.folder is not None and not isinstance(error, Diverged):
            # Whatever prevents this, such as a folder that is gone, the error is the first one.
            with contextlib.suppress(RNNScratchError, OSError):
                interrupted = "Interrupted. " * isinstance(error, KeyboardInterrupt)
                report.say(interrupted + _how_to_resume(report.folder))
        raise
    screen.print(text)


def _based_on(base: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    # What is on the command line comes first, and replaces what it excludes or implies.
    replaced = {"text": "corpus", "valid_tokens": "valid_share", "optimizer": "lr"}
    replaced |= {"corpus": "text", "valid_share": "valid_tokens"}
    omitted = {replaced.get(name) for name in arguments}
    return {name: value for name, value in base.items() if name not in omitted} | arguments


def _results(done: Run) -> str:
    # Below the figures: the digest in exact mode, and a text that the model writes.
    where = done.record.sessions[-1].runtime
    how = {**SAMPLE, "best": done.best is not None, "device": where.device, "eager": where.eager}
    text = inference.predict(done, **how)
    if not done.record.settings.exact:
        return text
    content = dataset.reload_and_verify(done.record.text, None)
    doubt = growth.doubt(done.record.settings, content, done.arrays)
    return "\n".join([f"digest {exact.digest(done.arrays)}", *doubt, text])


def _how_to_resume(folder: Path) -> str:
    # The checkpoint that a stopped run has kept, and the command that resumes it.
    last, saved = run_folder.read(folder).settings.num_epochs, checkpoint.load(folder)
    if saved.epoch == last:  # only something after it has failed, such as drawing the curve
        return f"The checkpoint of {saved.position}, the last one, is kept in {folder}."
    line = shlex.join(["rnn-scratch", "train", "--resume", str(folder), "--epochs", str(last)])
    return f"The checkpoint of {saved.position} is kept. To resume from there:\n{line}"
