"""The `compare` and `report` commands."""

import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import api, registry
from ..compare import pictures, tables, turns
from ..compare.record import VARIED, Comparison, Plan, read
from ..compare.report import DESCRIPTIONS, lines, page
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..runs import run_folder
from ..settings import Settings, Variant, validate
from ..system import files
from ..system.terminal import printable
from ..text import books
from .options import GroupedCommand, derived_options, settings_options, specified, split_list
from .screen import Screen

DEFAULT_EPOCHS = 5
LISTED = ", ".join(f"{variant} ({DESCRIPTIONS[variant]})" for variant in VARIANTS)


@click.command(cls=GroupedCommand)
@derived_options(api.train, only=("corpus", "text"))
@settings_options(num_epochs=DEFAULT_EPOCHS)
@click.option("--backends", metavar="A,B", help="Backends.  [default: all that can be loaded]")
@click.option(
    "--variants", metavar="A,B", default=VARIANTS[0], help=f"{LISTED}.", show_default=True
)
@derived_options(Plan, only=("device", "threads", "seconds"))
@click.option(
    "--sweep", metavar="NAME=A,B,...", help=f"Setting to vary, and its values: {', '.join(VARIED)}."
)
@click.option("--output", metavar="FOLDER", help="Output folder.  [default: a new one in runs/]")
def compare(
    backends: str | None, variants: str, sweep: str | None, output: str | None, **options: Any
) -> None:
    """Benchmark several backends: compare their speeds and results.

    Each candidate, a variant of a backend, trains for 5 epochs in its own process. Then the
    candidates take turns, in which their speeds are measured. The exit code is 1 if a candidate
    failed, and 2 if none is supported.
    """
    arguments = specified(options)
    plan = {name: arguments.pop(name) for name in Plan.__struct_fields__ if name in arguments}
    corpus, text = (arguments.pop(name, None) for name in ("corpus", "text"))
    settings = Settings(**{"num_epochs": DEFAULT_EPOCHS, **arguments})
    if sweep:
        plan["sweep"], plan["values"] = _parse_sweep(sweep)
    screen = Screen()
    names = split_list(backends) if backends else registry.list_loadable(screen.print_line)
    for name in names:
        registry.find(name)
    chosen = [validate("--variants", v, Variant) for v in split_list(variants)]
    if not names:
        raise RNNScratchError("No backend could be loaded.", "For details: rnn-scratch backends")
    content = books.find(corpus, text, screen.print_line)
    command = printable(shlex.join(["rnn-scratch", *sys.argv[1:]]))
    candidates = [(name, variant) for name in names for variant in chosen]
    record = turns.new_record(candidates, Plan(**plan), settings, content, command)
    folder = files.user_path(output) if output else run_folder.create_dated("comparison")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        hint = "Choose another folder with `--output`."
        raise RNNScratchError(f"The folder {folder} is not empty.", hint)
    screen.print_line(f"Results are saved in {folder}. Ctrl-C stops early and keeps them.")
    with screen.progress_bar() as bar:
        update = partial(bar.update, bar.add_task("", total=1))
        try:
            turns.run(record, content, folder, screen.print_line, update)
        finally:
            bar.stop()
            _show(folder, record, screen)
    sys.exit(1 if record.has_failed else 0 if record.supported else 2)


@click.command()
@click.argument("folder", type=files.user_path)
def report(folder: Path) -> None:
    """Regenerate the report of a comparison from its record in FOLDER."""
    _show(folder, read(folder), Screen())


def _show(folder: Path, record: Comparison, screen: Screen) -> None:
    """Print a comparison's tables, and write them to a CSV file and a report with figures."""
    files.replace(folder / "comparison.csv", tables.spreadsheet(record).encode())
    files.replace(folder / "report.html", page(record, pictures.draw(record)).encode())
    for line in lines("setting", record):
        screen.print(line)
    for table in tables.tables(record):
        heading, *rows = table.cells
        screen.print()
        screen.table(heading, rows, table.title, table.title != "Quality", table.keys)
    for line in ("", *tables.verdicts(record), *lines("notes", record)):
        screen.print(line)
    screen.print_line(f"\nReport with figures and method: {folder / 'report.html'}")


def _parse_sweep(text: str) -> tuple[str, list[int]]:
    name, _, values = text.replace("-", "_").partition("=")
    if name not in VARIED:
        hint = f"Use one of: {', '.join(VARIED)}."
        raise RNNScratchError(f"Unknown setting for `--sweep`: {name}.", hint)
    if not re.fullmatch("[0-9]{1,9}(,[0-9]{1,9})*", values):
        problem = f"`--sweep {name}` requires integers (got {values!r})."
        raise RNNScratchError(problem, "For example: `--sweep num_hiddens=64,128,256`")
    return name, sorted({int(value) for value in values.split(",")})
