"""The commands `compare` and `report`: parse, call, print."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import api, registry
from ..compare import comparison
from ..compare.plan import Plan
from ..contract import RNNScratchError
from ..settings import make
from . import display, tables
from .options import settings_from, settings_options, show_messages, text_options

MODELS = ("scratch", "concise")
EPOCHS = 20


@click.command()
@click.option("--backends", metavar="A,B", help="Which.  [default: those that are ready]")
@click.option("--models", metavar="A,B", default="scratch", show_default=True,
              help="scratch, concise: from scratch, on the framework's own layers.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, mps.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="Threads to compute with, the same for all.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True,
              help="Processes that each is timed in.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True,
              help="Train with so many seeds; mean and spread.")  # fmt: skip
@click.option(
    "--vary",
    metavar="NAME=A,B,...",
    help="Take times for several values of num_hiddens, batch_size, num_steps or threads.",
)
@click.option("--python", "pythons", metavar="BACKEND=PATH", multiple=True,
              help="Another interpreter, for a backend with its own environment.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=900, show_default=True,
              help="Seconds without a sign of life after which a worker is given up.")  # fmt: skip
@click.option("--tf32", is_flag=True, help="Let a GPU multiply in TF32.")
@click.option("--output", metavar="FOLDER", help="Where it goes.  [default: a new one in runs/]")
@click.option("--against", metavar="FOLDER", help="Set an older comparison beside this one.")
@click.option("--verbose", is_flag=True, help="Show the frameworks' own messages.")
@text_options
@settings_options
def compare(
    backends: str | None, models: str, vary: str | None, pythons: Sequence[str],
    output: str | None, against: str | None, verbose: bool,
    corpus: str | None, text: str | None, no_clip: bool, **options: Any,
) -> None:  # fmt: skip
    """Run the same training on several backends: tables, pictures, a report.

    20 epochs, if --epochs is not given. The exit code is 1 when something failed.
    """
    show_messages(verbose)
    names = ("device", "threads", "repeats", "seeds", "timeout", "tf32")
    own = {name: options.pop(name) for name in names}
    settings = make({"num_epochs": EPOCHS, **settings_from(options, no_clip)})
    report = display.Lines(display.console())
    found = dict(_pair(python, "--python", "mxnet=PATH") for python in pythons)
    chosen = _chosen(backends, "--backends", registry.names()) if backends else None
    if chosen is None:
        chosen = [*registry.ready(report.say, found)]
    plan = Plan(chosen, _chosen(models, "--models", MODELS), vary=_vary(vary), pythons=found, **own)
    command = shlex.join(["rnn-scratch", *sys.argv[1:]])
    record = tables.compare(
        plan, settings, api.find_text(corpus, text, report),
        Path(output) if output else None, Path(against) if against else None, command,
    )  # fmt: skip
    if record["outcome"] == "interrupted":
        raise KeyboardInterrupt
    sys.exit(1 if comparison.failed(record) else 0)


@click.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Make the report of a comparison again, from its record in FOLDER alone."""
    tables.show(Path(folder), comparison.read(Path(folder)), display.console())


def _vary(text: str | None) -> tuple[str, list[int]] | None:
    if text is None:
        return None
    name, values = _pair(text, "--vary", "num_hiddens=64,128,256")
    try:
        numbers = [int(value) for value in values.split(",")]
    except ValueError:
        raise RNNScratchError(
            f"--vary {text} was asked for; it takes whole numbers: --vary num_hiddens=64,128,256"
        ) from None
    return name.strip().replace("-", "_"), sorted(set(numbers))


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise RNNScratchError(f"{option} {text} was asked for; it goes like {option} {example}")
    return name, value


def _chosen(text: str, option: str, options: Sequence[str]) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    stray = [part for part in found if part not in options]
    if stray or not found:
        raise RNNScratchError(
            f"{option} {text} was asked for; it takes one or more of {', '.join(options)}, "
            "with commas between them."
        )
    return list(dict.fromkeys(found))
