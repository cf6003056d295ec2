"""The command `train`."""

from typing import Any

import click

from .. import api
from ..contract import RNNScratchError
from . import display
from .options import (
    given,
    place_options,
    settings_from,
    settings_options,
    show_messages,
    text_options,
)


@click.command()
@place_options("Who computes: torch, numpy, ...  [default: torch; a resumed run's own]")
@click.option("--resume", metavar="RUN", help="Go on with this run, to --epochs.")
@click.option("--run", metavar="FOLDER", help="Where the run goes.  [default: a new one in runs/]")
@text_options
@click.option("--eager", is_flag=True, help="Run uncompiled what is compiled, to step through it.")
@settings_options
def train(
    resume: str | None, run: str | None, no_clip: bool, verbose: bool,
    corpus: str | None, text: str | None, **options: Any,
) -> None:  # fmt: skip
    """Train a model on a text, and read what it writes."""
    show_messages(verbose)
    place = {name: options.pop(name) for name in ("backend", "model", "device", "threads", "eager")}
    settings = settings_from(options, no_clip)
    screen = display.console()
    report = (display.Bar if screen.is_terminal else display.Lines)(screen)
    try:
        if resume is None:
            done = api.train(
                corpus=corpus, text=text, run=run, report=report, **given(place), **settings
            )  # fmt: skip
        else:
            if run is not None:
                raise RNNScratchError("--resume goes on in the run's own folder: leave out --run.")
            if "num_epochs" not in settings:
                raise RNNScratchError("--resume needs --epochs N: to how many epochs should it go?")
            done = api.resume(
                resume, corpus=corpus, text=text, report=report, **place, **settings
            )  # fmt: skip
    except (KeyboardInterrupt, RNNScratchError) as stopped:
        diverged = getattr(stopped, "exit_code", 2) == 1  # and would do so again
        if report.folder is not None and not diverged:
            interrupted = isinstance(stopped, KeyboardInterrupt)
            report.say(display.how_to_go_on(report.folder, interrupted))
        raise
    for line in display.ending(done.history, done.record["sessions"][-1]):
        report.say(line)
