"""The commands `compare` and `report`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from .. import registry
from ..compare import pictures, plan, tables
from ..compare.record import VARIED, Candidate, Comparison, Plan, read
from ..compare.report import DESCRIPTIONS, lines, page
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..settings import Positive, Settings, Threads, Variant, validate
from ..system import files
from ..system.terminal import printable
from ..text import books
from .options import option, separated, settings_options, specified, text_options
from .screen import Screen

DEFAULT_EPOCHS = 5
TARGET_EPOCHS, HELD_OUT = 500, 20_000  # with `--target`: maximum epochs, held-out characters
MODELS = "Variants: " + ", ".join(f"{model} ({DESCRIPTIONS[model]})" for model in VARIANTS) + "."


@click.command()
@click.option("--backends", metavar="A,B", help="Backends to compare.  [default: those that load]")
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
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Number of timing processes per candidate.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Number of random seeds, with one training run per seed.",
)
@option(
    "--target",
    Positive,
    "Train until the held-out perplexity is at most this value, and report seconds and epochs. The "
    f"defaults are then {HELD_OUT:,} held-out characters at the end and at most {TARGET_EPOCHS} "
    "epochs.",
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
    target: float | None,
    vary: str | None,
    output: str | None,
    corpus: str | None,
    text: str | None,
    **options: Any,
) -> None:
    """Run the same training in several backends, and report speeds and results.

    By default, train for 5 epochs, or with --target for at most 500. The exit code is 1 if anything
    failed.
    """
    plan_options = ("device", "threads", "repeats", "seeds")
    plan_arguments = {name: options.pop(name) for name in plan_options}
    defaults: dict[str, Any] = {"num_epochs": DEFAULT_EPOCHS}
    if target is not None:
        defaults = {"num_epochs": TARGET_EPOCHS, "max_tokens": 0}
        if not options["valid_share"]:
            defaults["valid_tokens"] = HELD_OUT
    settings = Settings(**{**defaults, **specified(options)})
    screen = Screen()
    names = separated(backends) if backends else registry.list_loadable(screen.print_line)
    for name in names:
        registry.find(name)
    variants = [validate("model", model, Variant) for model in separated(models)]
    candidates = [Candidate(name, variant) for name in names for variant in variants]
    if not candidates:
        raise RNNScratchError("No backend loads.", "To see why: rnn-scratch backends")
    varied, values = _varied(vary) if vary else (None, [])
    planned = Plan(vary=varied, values=values, target=target, **plan_arguments)
    content = books.find(corpus, text, screen.print_line)
    command = printable(shlex.join(["rnn-scratch", *sys.argv[1:]]))
    record = plan.new_record(candidates, planned, settings, content, command)
    folder = plan.create_folder(Path(output) if output else None)
    screen.print_line(f"Comparing in {folder}; Ctrl-C keeps the measurements so far.")
    with screen.status("", spinner="line") as status:
        interrupt = plan.run(record, content, folder, screen.print_line, status.update)
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


def _show(folder: Path, record: Comparison, screen: Screen) -> None:
    # Print the tables of a comparison; write them to a CSV file and a report with figures.
    files.replace(folder / "comparison.csv", tables.spreadsheet(record).encode())
    files.replace(folder / "report.html", page(record, pictures.draw(record)).encode())
    for line in lines("setting", record):
        screen.print(line)
    for table in tables.tables(record):
        heading, *rows = table.cells()
        keys = 2 if table.vary else 1
        screen.print()
        screen.table(heading, rows, table.title, is_numeric=table.title != "Quality", keys=keys)
    for line in ("", *lines("notes", record)):
        screen.print(line)
    screen.print_line(f"\nThe report with figures and the method: {folder / 'report.html'}")


def _varied(text: str) -> tuple[str, list[int]]:
    name, _, values = text.partition("=")
    if not (name and values):
        problem = f"`--vary` takes a name and values (got {text})."
        raise RNNScratchError(problem, "For example: `--vary num_hiddens=64,128,256`")
    try:
        return name.strip().replace("-", "_"), sorted({int(value) for value in separated(values)})
    except ValueError:
        raise RNNScratchError(f"`--vary {name}` takes integers (got {values}).") from None
