"""The command `train`."""

import contextlib
from typing import Any

import click

from .. import api
from ..contract import RNNScratchError
from ..runs.progress import LineReport
from ..runs.training import Diverged
from ..workers import launch
from ..workers.launch import COORDINATOR
from . import display
from .options import (
    option,
    runtime_options,
    settings_options,
    show_messages,
    specified,
    text_options,
)
from .screen import Screen


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
@click.option(
    "--resume",
    metavar="RUN",
    help="Resume the run in this folder; requires --epochs, the total number of epochs.",
)
@click.option("--run", metavar="FOLDER", help="Folder of the run.  [default: a new one in runs/]")
@text_options
@option("eager", "Run compiled functions uncompiled, to debug them.")
@settings_options()
def train(
    resume: str | None,
    run: str | None,
    verbose: bool,
    workers: int | None,
    rank: int | None,
    coordinator: str | None,
    **options: Any,
) -> None:
    """Train a model on a text, and print text that it generates.

    With --resume, text and hyperparameters are those of the run; backend, model, device, number of
    threads and workers are by default.
    """
    show_messages(verbose)
    screen = Screen()
    report = display.BarReport(screen) if screen.is_terminal else LineReport(screen.say)
    launching = launch.chosen(workers, rank, coordinator)
    arguments = specified({"run": run, "workers": launching, **options})
    try:
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
                report.say(display.how_to_resume(report.folder, interrupted))
        raise
    if done is None:
        report.say("training is complete; the run is where worker 0 is")
        return
    for line in display.ending(done.history, done.record.sessions[-1]):
        report.say(line)
