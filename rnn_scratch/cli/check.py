"""The command `check`: compares backends with the reference, in tables or as JSON."""

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
from msgspec import structs, to_builtins
from rich.table import Table

from .. import registry
from ..check import exact_mode, growth, runner
from ..check.exact_mode import ExactModel, ExactResult
from ..check.results import Row
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..runs import schedule
from ..runs.progress import QUIET, format_perplexity, time_left
from ..runs.runtime import Runtime
from ..settings import OPTIONS, Settings, option_of
from ..text import books, dataset
from ..workers import launch
from .options import json_option, option, settings_options, specified, text_options
from .screen import Screen

EXACT_EPOCHS, EVERY = 50, 10  # in exact mode


@click.command()
@click.argument("backends", nargs=-1)
@click.option(
    "--model",
    "models",
    type=click.Choice(VARIANTS),
    multiple=True,
    help="Variant of the model; may be repeated.  [default: all; with --exact: scratch]",
)
@option("device", default="cpu", metavar="NAME")
@option(
    "workers",
    "Number of workers, or several to try in turn, such as 1,2,4.  [without a number: 3,2]",
    default="1",
    alone="3,2",
    metavar="N,...",
    several=True,
)
@click.option(
    "--all",
    "all_rows",
    is_flag=True,
    help="Show every comparison instead of a line for each function.",
)
@click.option(
    "--cell",
    "cells",
    type=click.Choice(OPTIONS["cell"].kind.choices),
    multiple=True,
    help="Recurrent cell; may be repeated.  [default: all; with --exact: rnn]",
)
@json_option
@text_options()
@option("every", "With --exact: epochs between two digests.", implied=f"{EVERY}")
@settings_options(omit=["cell"], num_epochs=EXACT_EPOCHS)
def check(
    backends: Sequence[str],
    models: Sequence[str],
    cells: Sequence[str],
    device: str,
    workers: Sequence[int],
    all_rows: bool,
    as_json: bool,
    corpus: str | None,
    text: str | None,
    every: int | None,
    **options: Any,
) -> None:
    """Compare backends with the NumPy reference, function by function.

    Each function has a line: ok, or DIFFERS and the first number that differs. If a comparison
    fails, the last line names the function to look at first. NumPy itself is compared with recorded
    values, and its gradients with finite differences.

    With --exact, train the backends in exact mode instead, with the settings of `train` (by default
    50 epochs), and compare all parameters bit for bit after every update. If they differ, the
    command names the first update and the parameters, and says whether rounding is a likely reason.

    The exit code is 1 if anything differs.
    """
    settings, cells = specified(options), list(dict.fromkeys(cells))
    exact = settings.pop("exact", False)
    if exact and len(cells) > 1:
        raise RNNScratchError(
            f"`--exact` trains one cell at a time (got `--cell` {', '.join(cells)})."
        )
    stray = settings | specified({"corpus": corpus, "text": text, "every": every})
    if stray and not exact:
        raise RNNScratchError(
            f"`{'`, `'.join(map(option_of, stray))}` requires `--exact`.",
            "Without `--exact`, `check` uses fixed inputs: omit the option.",
        )
    screen = Screen(stderr=as_json)  # beside the JSON
    if exact:
        settings |= {"cell": cells[0]} if cells else {}
        chosen = Settings(**{"num_epochs": EXACT_EPOCHS, **settings, "exact": True})
        for number in workers:
            launch.require_shares(chosen.batch_size, number)
        content = books.find(corpus, text, screen.say)
        schedule.require(len(dataset.prepare(content, chosen).train), chosen)
    else:
        for number in workers:
            runner.require_shares(number)
    for name in backends:
        registry.find(name)
    names = list(dict.fromkeys(backends)) or registry.loadable(screen.say)
    registry.check_device(names, device)
    variants = list(dict.fromkeys(models)) or (VARIANTS[:1] if exact else VARIANTS)
    runtimes = [
        Runtime(name, model, device, workers=number)
        for name, model, number in itertools.product(names, variants, workers)
    ]
    if exact:
        passed = _train(runtimes, chosen, content, every or EVERY, screen, as_json)
    else:
        passed = _check_pieces(runtimes, cells, all_rows, screen, as_json)
    sys.exit(0 if passed else 1)


def _check_pieces(
    runtimes: Sequence[Runtime], cells: Sequence[str], all_rows: bool, screen: Screen, as_json: bool
) -> bool:
    # Compare functions one by one; whether all are within the tolerance.
    answers, verdicts = [], []
    for runtime in runtimes:
        several = [f"{runtime.workers} workers"] if runtime.workers > 1 else []
        title = ", ".join((runtime.backend, runtime.model, *cells, *several))
        with screen.status(f"checking {title} ..."):
            rows = list(runner.rows(runtime, cells))
        if not as_json:
            screen.print(_table(title, rows, all_rows))
        number = sum(row.offered for row in rows)
        verdict = f"{number} comparison{'s' * (number != 1)}, all within the tolerance."
        if failures := [row for row in rows if not row.passed]:
            first = f"{failures[0].place}: {failures[0].sentence}"
            verdict = f"{len(failures)} of {len(rows)} comparisons fail; look first at: {first}."
        verdicts.append(f"{title}: {verdict}")
        where = {"backend": runtime.backend, "model": runtime.model, "workers": runtime.workers}
        answers += [{**where, **structs.asdict(row), "passed": row.passed} for row in rows]
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        screen.print("\n" + "\n".join(verdicts))
    return all(answer["passed"] for answer in answers)


def _table(title: str, rows: Sequence[Row], all_rows: bool) -> Table:
    # A line for each comparison; or for each function, with the first one that fails, and for each
    # reason why something is not offered.
    lines: dict[Any, Row] = {}
    for number, row in enumerate(rows):
        key = number if all_rows else (row.piece, row.offered or row.note)
        if key not in lines or (lines[key].passed and not row.passed):
            lines[key] = row
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in lines.values():
        verdict = "not offered" if not row.offered else "ok" if row.passed else "DIFFERS"
        short = "" if row.offered else row.note
        details = row.sentence if all_rows or not row.passed else short
        table.add_row(row.piece, verdict, details, style=None if row.passed else "bold red")
    return table


def _train(
    runtimes: Sequence[Runtime],
    settings: Settings,
    text: books.Text,
    every: int,
    screen: Screen,
    as_json: bool,
) -> bool:
    # Compare complete trainings in exact mode; whether all are equal.
    with contextlib.suppress(RNNScratchError):  # which the models' own processes report
        growth.warn(settings, text, screen.say)
    begun, total = set[str](), len(runtimes) * settings.num_epochs
    start = said = time.monotonic()
    with screen.bar() as bar:
        task = bar.add_task("", total=total, numbers="", left="")

        def progress(model: ExactModel, epoch: int) -> None:
            nonlocal said
            begun.add(model.title)
            done, now = (len(begun) - 1) * settings.num_epochs + epoch, time.monotonic()
            left = time_left((now - start) / done * (total - done) if done else None)
            title = f"training {model.title}: epoch {epoch}/{settings.num_epochs}"
            bar.update(task, completed=done, description=title, left=left)
            if not screen.is_terminal and now - said >= QUIET:
                said = now
                screen.say(f"{title}  {left}")

        result = exact_mode.compare(runtimes, settings, text, progress, every)
    if as_json:
        print(json.dumps(to_builtins(result), indent=2))
    else:
        _print_exact(result, screen)
    return result.equal


def _print_exact(result: ExactResult, screen: Screen) -> None:
    # A row for each digest: where all are equal, one for each epoch.
    trained = [model for model in result.models if model.digests]
    titles: dict[tuple[int, str], list[str]] = {}  # of the models, by epoch and digest
    perplexities: dict[int, float | None] = {}
    for model in trained:
        for after in model.digests:
            titles.setdefault((after.epoch, after.digest), []).append(model.title)
            perplexities.setdefault(after.epoch, after.perplexity)
    rows = []
    for epoch, digest in sorted(titles, key=lambda key: key[0]):
        perplexity = format_perplexity(perplexities[epoch]) if epoch else ""
        equal = titles[epoch, digest]
        names = f"all {len(equal)} equal" if len(equal) == len(trained) > 1 else ", ".join(equal)
        rows.append([str(epoch), perplexity, digest, names])
    if rows:
        screen.table(["epoch", "perplexity", "digest", "models"], rows)
    for model in result.models:
        if model.reason:
            screen.say(f"{model.title}: {model.outcome}: {model.reason}")
    if result.divergence:
        screen.print("The models' parameters differ.")
        screen.print(result.divergence.sentence)
    elif len(trained) == 1:
        screen.print("Only one model was trained: there is nothing to compare it with.")
    elif result.equal:
        names, end = ", ".join(model.title for model in trained), trained[0].digests[-1]
        screen.print(f"{names}: equal after {end.updates:,} updates, digest {end.digest}.")
