"""The commands `runs` and `backends`: what there is."""

from pathlib import Path

import click

from .. import registry
from ..runs import folder as run_folder
from . import display


@click.command()
@click.argument("folder", default="runs")
def runs(folder: str) -> None:
    """List the runs in FOLDER, newest first."""
    if not (found := run_folder.listing(Path(folder))):
        click.echo(f"There are no runs in {folder}. Make one: rnn-scratch train")
        return
    display.console().print(display.runs_table(found))


@click.command()
def backends() -> None:
    """List the backends: version, devices, ready or not, and what installs what is missing."""
    screen = display.console()
    probes = {}
    for name in registry.names():
        if screen.is_terminal:
            with screen.status(f"asking {name} ..."):
                probes[name] = registry.probe(name)
        else:
            probes[name] = registry.probe(name)
    screen.print(display.backends_table(probes))
