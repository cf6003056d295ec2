"""The commands `runs` and `backends`: lists of both."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.table import Table

from .. import registry
from ..contract import VARIANTS
from ..registry import Usable
from ..runs import folder as run_folder
from ..runs.folder import Epoch, RunRecord
from ..runs.progress import format_perplexity
from ..system import locks
from ..system.terminal import echo, shortened
from .screen import Screen

CELL = 40  # characters of a table, at most


@click.command()
@click.argument("folder", default="runs")
def runs(folder: str) -> None:
    """List the runs in FOLDER, newest first."""
    entries = run_folder.listing(Path(folder), functools.partial(echo, err=True))
    if not entries:
        echo(f"There are no runs in {folder}. Start one: rnn-scratch train")
        return
    Screen().print(_runs_table(entries))


@click.command()
def backends() -> None:
    """List the backends with their devices and versions, or with the reason why one fails."""
    screen = Screen()
    with screen.status("loading the frameworks ..."):
        probes = registry.probes(registry.names())
    screen.print(_backends_table(probes))


def _runs_table(runs: Sequence[tuple[Path, RunRecord, list[Epoch]]]) -> Table:
    table = Table("run", "started", "backend", "text", "epochs", "perplexity", "state", box=None)
    for folder, record, history in runs:
        session = record.sessions[-1]
        runtime = session.runtime
        last = history[-1].epoch if history else 0
        model = "" if runtime.model == VARIANTS[0] else f" ({runtime.model})"
        killed = session.outcome == "running" and not locks.is_held(folder)
        table.add_row(
            str(folder),
            f"{session.started.astimezone():%Y-%m-%d %H:%M}",
            shortened(runtime.backend + model, CELL),
            shortened(record.text.corpus, CELL),
            f"{last}/{record.settings.num_epochs}",
            format_perplexity(history[-1].perplexity) if history else "",
            "killed" if killed else session.outcome,
        )
    return table


def _backends_table(probes: Mapping[str, Usable | str]) -> Table:
    # With the reason why one does not load, and what to do.
    table = Table("backend", "usable", "devices", "versions", "what to do", box=None)
    for name, probe in probes.items():
        if isinstance(probe, str):
            table.add_row(name, "no", "", "", probe)
        else:
            versions = ", ".join(f"{key} {value}" for key, value in probe.environment.items())
            table.add_row(name, "yes", ", ".join(probe.devices), versions, "")
    return table
