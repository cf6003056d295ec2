"""The command `train`, with a progress bar on a terminal."""

import contextlib
import shlex
import statistics
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn

from .. import api, exact
from ..errors import RNNScratchError
from ..runs import checkpoint, events, run_folder
from ..runs.events import Ended, Started
from ..runs.presets import PRESETS
from ..runs.progress import LineReport, format_perplexity, numbers, numbers_within, time_left
from ..runs.run_folder import Epoch, Session
from ..runs.training import Diverged
from ..settings import option_of
from ..workers import launch
from ..workers.launch import COORDINATOR
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
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}{task.fields[left]}"),
            console=self.screen,
            transient=True,
        )
        fields: dict[str, Any] = {"epoch": event.session.from_epoch, "numbers": "", "left": ""}
        self.task = self.bar.add_task("", total=self.last, **fields)
        self.bar.start()

    def progress(self, event: events.Progress) -> None:
        """Show how far the epoch has come; its number counts as soon as it begins."""
        fields: dict[str, Any] = {"epoch": event.epoch, "left": time_left(event)}
        if event.loss is not None:
            fields["numbers"] = numbers_within(event)
        self.bar.update(self.task, completed=event.position, **fields)

    def epoch(self, event: Epoch) -> None:
        """Move the bar to the end of an epoch."""
        super().epoch(event)
        self.bar.update(self.task, completed=event.epoch, numbers=f"{numbers(event)}  ")

    def ended(self, event: Ended) -> None:
        """Remove the bar."""
        self.bar.stop()
        super().ended(event)


@click.command()
@runtime_options(backend="torch", model="scratch", device="auto", threads="the framework's choice")
@option(
    "workers",
    "Number of processes that each train on a share of every minibatch; on this machine, unless "
    "--rank is given.  [default: 1]",
    metavar="N",
)
@option(
    "rank",
    "Start only worker K, from 0 to N-1; the same command with the other ranks starts the others, "
    "here or on other machines.",
    metavar="K",
)
@click.option(
    "--coordinator",
    metavar="HOST:PORT",
    help="With --rank: where worker 0 waits for the others. Nothing that is sent there is "
    f"encrypted: private networks only.  [default: {COORDINATOR}]",
)
@option(
    "patience",
    "End after N epochs without a lower loss on held-out text (--valid-share); 0: train all "
    "epochs.  [default: 0; with --resume: the run's]",
    metavar="N",
)
@click.option(
    "--resume",
    metavar="RUN",
    help="Resume the run in this folder, or with this short name (`rnn-scratch runs`); requires "
    "--epochs, the total number of epochs.",
)
@click.option("--run", metavar="FOLDER", help="Folder of the run.  [default: a new one in runs/]")
@click.option(
    "--preset",
    type=click.Choice([*PRESETS]),
    help="Options by a name; those on the command line override them. chapter: the defaults; "
    "minute: readable text after a minute or two; shakespeare: a good network for --corpus "
    "tiny-shakespeare, in some minutes; long: a better one, in a quarter of an hour. The command "
    "that it stands for is shown.",
)
@text_options()
@option("eager", "Run compiled functions uncompiled, to debug them.")
@settings_options()
def train(
    resume: str | None,
    run: str | None,
    preset: str | None,
    workers: int | None,
    rank: int | None,
    coordinator: str | None,
    **options: Any,
) -> None:
    """Train a model on a text, and print text that it generates.

    The defaults are the settings of the chapter on recurrent networks in Dive into Deep Learning.

    With --resume, text and hyperparameters are those of the run, and backend, model, device,
    number of threads, workers and patience default to the run's.
    """
    screen = Screen()
    report = BarReport(screen) if screen.is_terminal else LineReport(screen.say)
    launching = launch.chosen(workers, rank, coordinator)
    arguments = specified({"run": run, "workers": launching, **options})
    try:
        if preset is not None:
            if resume is not None:
                raise RNNScratchError("--preset is for a new run, and --resume has one: omit it.")
            arguments = _with_preset(preset, arguments)
            given = {name: each for name, each in arguments.items() if name != "workers"}
            words = [f"{option_of(name)} {each}" for name, each in given.items()]
            report.say(" ".join([f"preset {preset}: rnn-scratch train", *words]))
        if resume is None:
            done = api.train(report=report, **arguments)
        elif run is not None:
            raise RNNScratchError("--resume continues in the run's folder: omit --run.")
        elif "num_epochs" not in arguments:
            raise RNNScratchError("--resume requires --epochs N, the total number of epochs.")
        else:
            done = api.resume(resume, report=report, **arguments)
    except (KeyboardInterrupt, RNNScratchError) as error:
        # A run that has diverged would diverge again.
        if report.folder is not None and not isinstance(error, Diverged):
            interrupted = isinstance(error, KeyboardInterrupt)
            # Whatever prevents this, such as a folder that is gone, the error is the first one.
            with contextlib.suppress(RNNScratchError):
                report.say(_how_to_resume(report.folder, report.session, interrupted))
        raise
    if done is None:
        report.say("training is complete; the run is where worker 0 is")
        return
    # The chapter's last lines: perplexity, tokens per second, device, and two continuations.
    session = done.record.sessions[-1]
    epochs = [row for row in done.history if row.epoch > session.from_epoch]
    speed = statistics.median(row.tokens / row.seconds for row in epochs)
    perplexity = format_perplexity(epochs[-1].perplexity, 1)
    report.say(f"perplexity {perplexity}, {speed:.1f} tokens/sec on {session.runtime.device}")
    if done.record.settings.exact:
        report.say(f"digest {exact.digest(checkpoint.load(done.folder).arrays)}")
    for text in session.predictions:
        report.say(text)


def _with_preset(preset: str, arguments: dict[str, Any]) -> dict[str, Any]:
    # What is on the command line comes first; a text there takes the place of the preset's.
    replaced = {"corpus"} if "text" in arguments else set[str]()
    replaced |= {"valid_share"} if "valid_tokens" in arguments else set[str]()
    replaced |= {"lr"} if "optimizer" in arguments else set[str]()  # it has one of its own
    values = {name: each for name, each in PRESETS[preset].items() if name not in replaced}
    return {**values, **arguments}


def _how_to_resume(folder: Path, session: Session, interrupted: bool) -> str:
    # The checkpoint that a stopped run has kept, and the command that resumes it.
    last = run_folder.of_session(folder, session).settings.num_epochs
    saved = checkpoint.latest(folder)
    line = shlex.join(["rnn-scratch", "train", "--resume", str(folder), "--epochs", str(last)])
    kept = f"{'Interrupted. ' if interrupted else ''}The checkpoint of epoch {saved.epoch}"
    if more := len(saved.incomplete.losses):
        kept += f" and {more} minibatch{'es' if more > 1 else ''} of the next"
    if saved.epoch == last:  # only something after it has failed, such as drawing the curve
        return f"{kept}, the last one, is kept in {folder}."
    return f"{kept} is kept. To resume from there:\n{line}"
