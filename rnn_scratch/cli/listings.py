"""The commands `runs` and `backends`: lists of both."""

from pathlib import Path

import click

from .. import registry
from ..runs import folder as run_folder
from ..system.terminal import echo
from . import display


@click.command()
@click.argument("folder", default="runs")
def runs(folder: str) -> None:
    """List the runs in FOLDER, newest first."""
    problems: list[str] = []
    entries = run_folder.listing(Path(folder), problems.append)
    if problems:
        screen = display.console(stderr=True)
        for line in problems:
            screen.print(line, soft_wrap=True)
    if not entries:
        echo(f"There are no runs in {folder}. Start one: rnn-scratch train")
        return
    display.console().print(display.runs_table(entries))


@click.command()
def backends() -> None:
    """List the backends with their devices and versions, or with the reason why one fails."""
    screen = display.console()
    with screen.status("loading the frameworks ..."):
        probes = registry.probes(registry.names())
    screen.print(display.backends_table(probes))
