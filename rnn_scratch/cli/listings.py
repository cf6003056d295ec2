"""The `runs` and `backends` commands, which print lists."""

from pathlib import Path

import click

from .. import registry
from ..runs.progress import format_perplexity
from ..runs.run import list_runs
from ..runs.run_folder import PARENT, Epoch, RunRecord
from ..system import files
from .screen import Screen

HEADING = [
    "run",
    "folder",
    "backend",
    "variant",
    "text",
    "epochs",
    "perplexity",
    "held-out",
    "state",
]


@click.command()
@click.argument("folder", default=str(PARENT), type=files.user_path)
def runs(folder: Path) -> None:
    """List the runs in FOLDER, newest first.

    The perplexities are from the last epoch. For the short names of runs, see `predict --help`.
    """
    if runs := list_runs(folder, Screen(stderr=True).print_line):
        Screen().table(HEADING, [_make_row(*run) for run in runs], keys=2)
    else:
        Screen().print_line(f"No runs found in {folder}. Start one: rnn-scratch train")


@click.command()
def backends() -> None:
    """List the backends with their devices and versions."""
    screen = Screen()
    with screen.status("loading the frameworks ..."):
        probes = registry.probes(registry.names())
    rows = []
    for name, probe in probes.items():
        if isinstance(probe, str):  # the reason for the failure, with a hint
            rows.append([name, "no", "", probe])
        else:
            versions = ", ".join(f"{key} {value}" for key, value in probe.environment.items())
            rows.append([name, "yes", ", ".join(probe.devices), versions])
    screen.table(["backend", "usable", "devices", "versions, or error"], rows)


def _make_row(folder: Path, record: RunRecord, history: list[Epoch]) -> list[str]:
    settings, session = record.settings, record.sessions[-1]
    last = history[-1] if history else None
    layers = f"{settings.num_layers} x " if settings.num_layers > 1 else ""
    return [
        str(record.number),
        str(folder),
        f"{session.runtime.backend} {session.runtime.variant}",
        f"{settings.cell} {layers}{settings.num_hiddens}",
        record.text.name,
        f"{last.epoch if last else 0}/{settings.num_epochs}",
        format_perplexity(last.perplexity) if last else "",
        format_perplexity(last.valid_perplexity) if last and last.valid_loss is not None else "",
        "running or killed" if session.outcome == "running" else session.outcome,
    ]
