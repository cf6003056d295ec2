"""The commands `runs` and `backends`: lists of both."""

import functools
import json
from pathlib import Path

import click
from msgspec import to_builtins

from .. import registry
from ..errors import shortened
from ..runs import run_folder
from ..runs.progress import format_perplexity
from ..runs.run import listing, numbered
from ..runs.run_folder import Epoch, RunRecord
from ..system import locks
from ..system.terminal import echo
from .options import json_option
from .screen import Screen

CELL = 40  # characters of a table, at most
HEADING = [
    *("folder", "started", "backend", "variant", "cell", "units"),
    *("text", "epochs", "perplexity", "held out", "state"),
]


@click.command()
@click.argument("folder", default=str(run_folder.PARENT))
@json_option
def runs(folder: str, as_json: bool) -> None:
    """List the runs in FOLDER, newest first.

    Every command accepts the short names of the runs in runs/: a number, which counts up from 1,
    and `last` for the newest. Units are per layer. Perplexities are those of the last epoch. With
    --json, print each run's record, run.json, and its last epoch.
    """
    parent = Path(folder)
    entries = listing(parent, functools.partial(echo, err=True))
    named = numbered(parent) if parent == run_folder.PARENT else {}
    numbers = {path: number for number, path in named.items()}
    if as_json:
        answers = []
        for path, record, history in entries:
            where = {"run": numbers.get(path), "folder": str(path), "state": _state(path, record)}
            answers.append({**where, "last": history[-1] if history else None, "record": record})
        print(json.dumps(to_builtins(answers), indent=2))
        return
    if not entries:
        echo(f"There are no runs in {folder}. Start one: rnn-scratch train")
        return
    heading, rows = HEADING, [_cells(*entry) for entry in entries]
    if named:
        heading = ["run", *heading]
        rows = [[str(numbers.get(path, "")), *row] for (path, _, _), row in zip(entries, rows)]
    Screen().table(heading, rows)


@click.command()
def backends() -> None:
    """List the backends with their devices and versions, or the reason why one fails."""
    screen = Screen()
    with screen.status("loading the frameworks ..."):
        probes = registry.probes(registry.names())
    rows = []
    for name, probe in probes.items():
        if isinstance(probe, str):  # the reason why it does not load, and what to do
            rows.append([name, "no", "", "", probe])
        else:
            versions = ", ".join(f"{key} {value}" for key, value in probe.environment.items())
            rows.append([name, "yes", ", ".join(probe.devices), versions, ""])
    screen.table(["backend", "usable", "devices", "versions", "what to do"], rows)


def _state(folder: Path, record: RunRecord) -> str:
    outcome = record.sessions[-1].outcome
    if outcome != "running" or locks.is_held(folder):
        return outcome
    # The session may have ended since its record was read.
    outcome = run_folder.read(folder).sessions[-1].outcome
    return "killed" if outcome == "running" else outcome


def _cells(folder: Path, record: RunRecord, history: list[Epoch]) -> list[str]:
    settings, session = record.settings, record.sessions[-1]
    epoch, perplexity, held_out = 0, "", ""
    if history:
        last = history[-1]
        epoch, perplexity = last.epoch, format_perplexity(last.perplexity)
        if last.valid_loss is not None:
            held_out = format_perplexity(last.valid_perplexity)
    layers = f"{settings.num_layers} x " if settings.num_layers > 1 else ""
    return [
        str(folder),
        f"{session.started:%Y-%m-%d %H:%M}",
        shortened(session.runtime.backend, CELL),
        session.runtime.model,
        settings.cell,
        f"{layers}{settings.num_hiddens}",
        shortened(record.text.corpus, CELL),
        f"{epoch}/{settings.num_epochs}",
        perplexity,
        held_out,
        _state(folder, record),
    ]
