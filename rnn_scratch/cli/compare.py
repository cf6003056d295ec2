"""The commands `compare` and `report`."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import click
from msgspec import Meta

from .. import registry
from ..compare import pictures, plan, tables
from ..compare.record import VARIED, Candidate, Comparison, Plan, read
from ..compare.report import DESCRIPTIONS, lines, page
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..runs import run_folder
from ..settings import Positive, Settings, Threads, Variant, validate
from ..system import files
from ..system.terminal import printable
from ..text import books
from .options import (
    Number,
    option,
    separated,
    settings_options,
    specified,
    text_options,
    verbose_option,
)
from .screen import Screen

DEFAULT_EPOCHS = 5
TARGET_EPOCHS, HELD_OUT = 500, 20_000  # maximum of epochs, and characters, with a target
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
    "Train until the held-out perplexity is at most this value, and report seconds and epochs. By "
    f"default, train on all but the last {HELD_OUT:,} characters for at most {TARGET_EPOCHS} "
    "epochs.",
)
@click.option(
    "--vary", metavar="NAME=A,B,...", help=f"Time several values of one of: {', '.join(VARIED)}."
)
@click.option(
    "--python",
    "pythons",
    metavar="BACKEND=PATH",
    multiple=True,
    help="Python interpreter of a backend in another environment, such as mxnet=PATH.",
)
@click.option(
    "--timeout",
    type=Number(Annotated[float, Meta(gt=0, le=10**6)]),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Kill a process that makes no progress for this long.",
)
@click.option("--output", metavar="FOLDER", help="Folder to write.  [default: a new one in runs/]")
@verbose_option
@text_options()
@settings_options(num_epochs=DEFAULT_EPOCHS)
def compare(
    backends: str | None,
    models: str,
    target: float | None,
    vary: str | None,
    pythons: Sequence[str],
    output: str | None,
    corpus: str | None,
    text: str | None,
    **options: Any,
) -> None:
    """Run the same training in several backends and report speed and results.

    By default, train for 5 epochs, or with --target for at most 500. The exit code is 1 if anything
    failed.
    """
    plan_options = ("device", "threads", "repeats", "seeds", "timeout")
    plan_arguments = {name: options.pop(name) for name in plan_options}
    defaults: dict[str, Any] = {"num_epochs": DEFAULT_EPOCHS}
    if target is not None:
        defaults = {"num_epochs": TARGET_EPOCHS, "max_tokens": 0}
        if not options["valid_share"]:
            defaults["valid_tokens"] = HELD_OUT
    settings = Settings(**{**defaults, **specified(options)})
    screen = Screen()
    paths = dict(_pair(python, "--python", "mxnet=PATH") for python in pythons)
    names = separated(backends) if backends else registry.loadable(screen.print_line, paths)
    for name in names:
        registry.find(name)
    variants = [validate("model", model, Variant) for model in separated(models)]
    candidates = [Candidate(name, variant) for name in dict.fromkeys(names) for variant in variants]
    if not candidates:
        raise RNNScratchError("No backend loads.", "To see why: rnn-scratch backends")
    interpreters = plan.interpreters(candidates, paths)
    varied, values = _varied(vary) if vary else (None, [])
    planned = Plan(vary=varied, values=values, target=target, **plan_arguments)
    content = books.find(corpus, text, screen.print_line)
    record = plan.new_record(candidates, planned, settings, content, _command(pythons))
    folder = _new_folder(Path(output) if output else None)
    screen.print_line(f"Comparing in {folder}; Ctrl-C keeps the measurements so far.")
    with screen.status("", spinner="line") as status:
        plan.run(record, content, interpreters, folder, screen.print_line, status.update)
    _show(folder, record, screen)
    if record.outcome == "interrupted":
        raise KeyboardInterrupt
    sys.exit(1 if record.has_failed else 0)


@click.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Make the report of a comparison again from its record in FOLDER."""
    record = read(Path(folder))
    _show(Path(folder), record, Screen())


def _show(folder: Path, record: Comparison, screen: Screen) -> None:
    # Print the tables of a record, and write them as CSV and as a report with figures.
    files.replace(folder / "comparison.csv", tables.spreadsheet(record).encode())
    files.replace(folder / "report.html", page(record, pictures.draw(record)).encode())
    for line in lines("setting", record):
        screen.print(line)
    for table in tables.tables(record):
        heading, *rows = table.cells()
        keys = 2 if table.vary else 1
        screen.print()
        screen.table(heading, rows, table.title, numbers=table.title != "Quality", keys=keys)
    for line in ("", *lines("notes", record)):
        screen.print(line)
    screen.print_line(f"\nThe report with figures and the method: {folder / 'report.html'}")


def _new_folder(output: Path | None) -> Path:
    # Create a new folder, or use an empty folder.
    try:
        if output is None:
            return run_folder.create_dated("comparison")
        output.mkdir(parents=True, exist_ok=True)
        if not any(output.iterdir()):
            return output
    except OSError as error:
        folder = output or run_folder.PARENT
        raise RNNScratchError(f"Cannot create the folder {folder}: {error.strerror}.") from error
    raise RNNScratchError(f"The folder {output} is not empty.", "Choose another with --output.")


def _command(pythons: Sequence[str]) -> str:
    # The command for the record, without the paths of interpreters, which are private.
    arguments = sys.argv[1:]
    for python in pythons:
        private = f"{python.split('=')[0]}=PATH"
        arguments = [argument.replace(python, private) for argument in arguments]
    return printable(shlex.join(["rnn-scratch", *arguments]))


def _varied(text: str) -> tuple[str, list[int]]:
    name, values = _pair(text, "--vary", "num_hiddens=64,128,256")
    try:
        return name.strip().replace("-", "_"), sorted({int(value) for value in separated(values)})
    except ValueError:
        raise RNNScratchError(f"`--vary {name}` takes integers (got {values}).") from None


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not (name and value):
        raise RNNScratchError(
            f"`{option}` takes a name and a value (got {text}).",
            f"For example: `{option} {example}`",
        )
    return name, value
