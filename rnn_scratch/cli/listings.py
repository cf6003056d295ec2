"""The commands `runs` and `backends`: lists of both."""

import functools
from pathlib import Path

import click

from .. import registry
from ..runs import folder as run_folder
from ..system.terminal import echo
from . import display
from .screen import Screen


@click.command()
@click.argument("folder", default="runs")
def runs(folder: str) -> None:
    """List the runs in FOLDER, newest first."""
    entries = run_folder.listing(Path(folder), functools.partial(echo, err=True))
    if not entries:
        echo(f"There are no runs in {folder}. Start one: rnn-scratch train")
        return
    Screen().print(display.runs_table(entries))


@click.command()
def backends() -> None:
    """List the backends with their devices and versions, or with the reason why one fails."""
    screen = Screen()
    with screen.status("loading the frameworks ..."):
        probes = registry.probes(registry.names())
    screen.print(display.backends_table(probes))
