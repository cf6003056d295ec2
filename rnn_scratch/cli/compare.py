"""The commands `compare` and `report`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich import progress as bars

from .. import registry
from ..compare import pictures, tables, turns
from ..compare.record import VARIED, Comparison, Plan, Seconds, read
from ..compare.report import DESCRIPTIONS, lines, page
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..runs import run_folder
from ..settings import Settings, Threads, Variant, validate
from ..system import files
from ..system.terminal import printable
from ..text import books
from .options import option, separated, settings_options, specified, text_options
from .screen import Screen

DEFAULT_EPOCHS = 5
MODELS = "Variants: " + ", ".join(f"{model} ({DESCRIPTIONS[model]})" for model in VARIANTS) + "."


@click.command()
@click.option(
    "--backends", metavar="A,B", help="Backends to compare.  [default: all that can be loaded]"
)
@click.option("--models", metavar="A,B", default=VARIANTS[0], help=MODELS, show_default=True)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Device: cpu, cuda, mps, or auto for the best device that each backend reports.",
)
@option(
    "--threads", Threads, "Number of threads for every candidate.", default=1, show_default=True
)
@option(
    "--seconds",
    Seconds,
    "Maximum duration of the turns; 0 only trains. The turns end earlier if every interval is "
    "narrower than ±3 %.",
    default=120.0,
    show_default=True,
)
@click.option(
    "--vary", metavar="NAME=A,B,...", help=f"Time several values of one of: {', '.join(VARIED)}."
)
@click.option("--output", metavar="FOLDER", help="Output folder.  [default: a new one in runs/]")
@text_options()
@settings_options(num_epochs=DEFAULT_EPOCHS)
def compare(
    backends: str | None,
    models: str,
    device: str,
    threads: int,
    seconds: float,
    vary: str | None,
    output: str | None,
    corpus: str | None,
    text: str | None,
    **options: Any,
) -> None:
    """Run the same training in several backends, and report speeds and results.

    Each candidate runs in its own process. The candidates train for 5 epochs, and then take turns,
    while their speeds are measured. The exit code is 1 if anything failed.
    """
    settings = Settings(**{"num_epochs": DEFAULT_EPOCHS, **specified(options)})
    varied, values = _varied(vary) if vary else (None, [])
    screen = Screen()
    names = separated(backends) if backends else registry.list_loadable(screen.print_line)
    for name in names:
        registry.find(name)
    variants = [validate("model", model, Variant) for model in separated(models)]
    if not names:
        raise RNNScratchError("No backend could be loaded.", "For details: rnn-scratch backends")
    plan = Plan(device=device, threads=threads, seconds=seconds, vary=varied, values=values)
    content = books.find(corpus, text, screen.print_line)
    command = printable(shlex.join(["rnn-scratch", *sys.argv[1:]]))
    candidates = [(name, variant) for name in names for variant in variants]
    record = turns.new_record(candidates, plan, settings, content, command)
    folder = _create_folder(Path(output) if output else None)
    screen.print_line(f"Comparing in {folder}; Ctrl-C keeps the measurements so far.")
    columns = (bars.BarColumn(), "{task.description}")
    is_off = not screen.is_terminal
    with bars.Progress(*columns, console=screen, transient=True, disable=is_off) as bar:
        task = bar.add_task("", total=1)

        def update(description: str, completed: float) -> None:
            bar.update(task, description=description, completed=completed)

        interrupt = turns.run(record, content, folder, screen.print_line, update)
    _show(folder, record, screen)
    if interrupt is not None:
        raise interrupt
    sys.exit(1 if record.has_failed else 0)


@click.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Regenerate the report of a comparison from its record in FOLDER."""
    record = read(Path(folder))
    _show(Path(folder), record, Screen())


def _create_folder(output: Path | None) -> Path:
    # Return an empty folder: `output`, created if missing, or a dated folder.
    try:
        if output is None:
            return run_folder.create_dated("comparison")
        output.mkdir(parents=True, exist_ok=True)
        if not any(output.iterdir()):
            return output
    except OSError as error:
        folder = output or run_folder.PARENT
        problem = f"Could not create the folder {folder}: {error.strerror}."
        raise RNNScratchError(problem, "Choose another folder with `--output`.") from error
    raise RNNScratchError(f"The folder {output} is not empty.", "Choose another with `--output`.")


def _show(folder: Path, record: Comparison, screen: Screen) -> None:
    # Print the tables of a comparison; write them to a CSV file and a report with figures.
    files.replace(folder / "comparison.csv", tables.spreadsheet(record).encode())
    files.replace(folder / "report.html", page(record, pictures.draw(record)).encode())
    for line in lines("setting", record):
        screen.print(line)
    for table in tables.tables(record):
        heading, *rows = table.cells
        is_numeric = table.title != "Quality"
        screen.print()
        screen.table(heading, rows, table.title, is_numeric=is_numeric, keys=table.keys)
    for line in ("", *tables.verdicts(record), *lines("notes", record)):
        screen.print(line)
    screen.print_line(f"\nThe report with figures and the method: {folder / 'report.html'}")


def _varied(text: str) -> tuple[str, list[int]]:
    name, _, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in VARIED:
        hint = f"Use one of: {', '.join(VARIED)}."
        raise RNNScratchError(f"Unknown setting for `--vary`: {name}.", hint)
    try:
        return name, sorted({int(value) for value in separated(values)})
    except ValueError:
        problem = f"`--vary {name}` requires integers (got {values})."
        raise RNNScratchError(problem, "For example: `--vary num_hiddens=64,128,256`") from None
