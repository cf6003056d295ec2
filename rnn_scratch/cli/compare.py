"""The commands `compare` and `report`."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from .. import registry
from ..compare import pictures, plan, tables
from ..compare.record import VARIED, Candidate, Comparison, Plan, read
from ..compare.report import DESCRIPTIONS, lines, page
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..runs import curve, run_folder
from ..settings import Settings, checked
from ..system import files, locks
from ..system.terminal import printable
from ..text import books
from .options import option, separated, settings_options, specified, text_options, verbose_option
from .screen import Screen

FEW_EPOCHS = 5
TARGET_EPOCHS, HELD_OUT = 500, 20_000  # epochs at most, and characters, with a target
PLAN = ("device", "threads", "repeats", "seeds", "timeout", "tf32")  # options as Plan has them
MODELS = ", ".join(f"{model} ({DESCRIPTIONS[model]})" for model in VARIANTS)


@click.command()
@click.option("--backends", metavar="A,B", help="Backends to compare.  [default: those that load]")
@click.option(
    "--models",
    metavar="A,B",
    help=f"Variants of the model: {MODELS}.  [default: {VARIANTS[0]}]",
)
@click.option(
    "--candidates",
    metavar="A,B:fast,...",
    help="Candidates to compare, instead of --backends and --models, as backend:variant, or as "
    "backend@environment:variant with an environment that --python names.",
)
@option(
    "device",
    "Device: cpu, cuda, mps, or auto for the best one that each backend reports.",
    "cpu",
    "NAME",
)
@option("threads", "Number of threads for every candidate.", 1, "N")
@option("repeats", "Number of processes to time each candidate in.", 5, "N")
@option("seeds", "Number of random seeds to train with.", 1, "N")
@option(
    "target",
    "Train until the held-out perplexity is P or below, and report seconds and epochs. By default, "
    f"train on all but the last {HELD_OUT:,} characters for at most {TARGET_EPOCHS} epochs.",
    metavar="P",
)
@click.option(
    "--vary", metavar="NAME=A,B,...", help=f"Time several values of one of: {', '.join(VARIED)}."
)
@click.option(
    "--python",
    "pythons",
    metavar="BACKEND=PATH",
    multiple=True,
    help="Python interpreter of a backend in another environment, such as mxnet=PATH, or of an "
    "environment named in --candidates, such as new=PATH, or numpy@new=PATH for one backend.",
)
@option("timeout", "Stop a process after this time without progress.", 900.0, "SECONDS")
@click.option("--tf32", is_flag=True, help="Allow TF32 matrix products on NVIDIA GPUs.")
@click.option("--output", metavar="FOLDER", help="Folder to write.  [default: a new one in runs/]")
@click.option(
    "--against",
    metavar="FOLDER",
    help="Also show the speeds of this older comparison and the ratios to them.",
)
@verbose_option
@text_options()
@settings_options(num_epochs=FEW_EPOCHS)
def compare(
    backends: str | None,
    models: str | None,
    candidates: str | None,
    target: float | None,
    vary: str | None,
    pythons: Sequence[str],
    output: str | None,
    against: str | None,
    corpus: str | None,
    text: str | None,
    **options: Any,
) -> None:
    """Run the same training in several backends and report speed and results.

    By default, train for 5 epochs, or with --target for at most 500. The exit code is 1 if anything
    failed.
    """
    common = {name: options.pop(name) for name in PLAN}
    defaults: dict[str, Any] = {"num_epochs": FEW_EPOCHS}
    if target is not None:
        defaults = {"num_epochs": TARGET_EPOCHS, "max_tokens": 0}
        if not options["valid_share"]:
            defaults["valid_tokens"] = HELD_OUT
    settings = Settings(**{**defaults, **specified(options)})
    screen = Screen()
    named = dict(_pair(python, "--python", "mxnet=PATH") for python in pythons)
    if candidates and (backends or models):
        raise RNNScratchError(
            "`--candidates` replaces --backends and --models.", "Omit these options."
        )
    if candidates:
        names = separated(candidates)
    else:
        loading = separated(backends) if backends else registry.loadable(screen.say, named)
        names = [f"{name}:{m}" for name in loading for m in separated(models or VARIANTS[0])]
    chosen = list({made.name: made for made in map(_candidate, names)}.values())
    if not chosen:
        raise RNNScratchError("No backend loads.", "To see why: rnn-scratch backends")
    interpreters = plan.interpreters(chosen, named)
    varied, values = _varied(vary) if vary else (None, [])
    how = Plan(vary=varied, values=values, target=target, **common)
    content, command = books.find(corpus, text, screen.say), _command(pythons)
    record = plan.new_record(chosen, how, settings, content, command)
    record.against = replace(read(Path(against)), against=None) if against else None
    curve.check_matplotlib(*pictures.FORMATS)
    folder = _folder(Path(output) if output else None)
    refusal = f"Another comparison writes to {folder}.\nChoose another folder with --output."
    with locks.hold(folder, lambda: refusal):
        screen.say(f"Comparing in {folder}; Ctrl-C keeps what has been measured.")
        with screen.status("", spinner="line") as status:
            plan.run(record, content, interpreters, folder, screen.say, status.update)
        _show(folder, record, screen)
    if record.outcome == "interrupted":
        raise KeyboardInterrupt
    sys.exit(1 if record.has_failed else 0)


@click.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Make the report of a comparison again from its record in FOLDER."""
    record = read(Path(folder))
    curve.check_matplotlib(*pictures.FORMATS)
    _show(Path(folder), record, Screen())


def _show(folder: Path, record: Comparison, screen: Screen) -> None:
    # Print the tables of a record, and make its files again: CSV, pictures, report.
    images = pictures.draw(record)
    for file_name, content in images.items():
        files.replace(folder / file_name, content)
    files.replace(folder / "comparison.csv", tables.spreadsheet(record).encode())
    files.replace(folder / "report.html", page(record, images).encode())
    for line in lines("setting", record):
        screen.print(line)
    for table in tables.tables(record):
        heading, *rows = table.cells()
        keys = 2 if table.vary else 1
        screen.print()
        screen.table(heading, rows, table.title, numbers=table.title != "Quality", keys=keys)
    for line in ("", *lines("notes", record)):
        screen.print(line)
    screen.say(f"\nThe report with all figures and the method: {folder / 'report.html'}")


def _folder(output: Path | None) -> Path:
    # A new folder, or this one if it is empty, but for a lock.
    try:
        if output is None:
            return run_folder.dated("comparison")
        output.mkdir(parents=True, exist_ok=True)
        others = {path.name for path in output.iterdir()} - {locks.LOCK}
    except OSError as error:
        raise RNNScratchError(
            f"The folder {output or run_folder.PARENT} could not be created: {error.strerror}."
        ) from error
    if others and not locks.is_held(output):
        raise RNNScratchError(
            f"The folder {output} is not empty and would mix two results.",
            "Choose another folder with --output.",
        )
    return output


def _command(pythons: Sequence[str]) -> str:
    # The command, for the record: paths of interpreters are private.
    words = sys.argv[1:]
    for python in pythons:
        words = [word.replace(python, f"{python.split('=')[0]}=PATH") for word in words]
    return printable(shlex.join(["rnn-scratch", *words]))


def _varied(text: str) -> tuple[str, list[int]]:
    example = "num_hiddens=64,128,256"
    name, values = _pair(text, "--vary", example)
    try:
        numbers = sorted({int(value) for value in separated(values)})
    except ValueError:
        raise RNNScratchError(
            f"`--vary` takes integers (got {text}).", f"For example: `--vary {example}`"
        ) from None
    return name.strip().replace("-", "_"), numbers


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise RNNScratchError(
            f"`{option}` takes a name and a value (got {text}).",
            f"For example: `{option} {example}`",
        )
    return name, value


def _candidate(text: str) -> Candidate:
    # One of the form backend@environment:variant.
    place, colon, model = text.partition(":")
    backend, at, environment = place.partition("@")
    if at and not re.fullmatch(r"[\w.+-]{1,50}", environment):
        raise RNNScratchError(
            f"The environment name {environment!r} in `--candidates` is not valid.",
            "Use letters, digits and . + - _ only, for example numpy@new.",
        )
    registry.find(backend)
    return Candidate(backend, checked("model", model if colon else VARIANTS[0]), environment)
