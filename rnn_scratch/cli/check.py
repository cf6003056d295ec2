"""The command `check`: compares backends with the reference, in tables or as JSON."""

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from msgspec import structs, to_builtins
from rich.progress import Progress
from rich.table import Table

from .. import registry
from ..check import exact_mode, growth, runner
from ..check.exact_mode import ExactModel, ExactResult
from ..check.results import Row, fact
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..runs import schedule
from ..runs.events import Report
from ..runs.progress import QUIET, LineReport, format_perplexity, time_left
from ..runs.runtime import Runtime
from ..settings import OPTIONS, Settings, option_of
from ..text import books, dataset
from ..workers import launch
from .options import option, settings_options, specified, text_options
from .screen import Screen

EXACT_EPOCHS = 50  # in exact mode


@click.command()
@click.argument("backends", nargs=-1)
@click.option(
    "--model",
    "models",
    type=click.Choice(VARIANTS),
    multiple=True,
    help="Variant of the model; may be repeated.  [default: all; with --exact: scratch]",
)
@click.option(
    "--device", default="cpu", show_default=True, help="cpu, cuda, mps; auto: the best one."
)
@option(
    "workers",
    "Number of workers, or several numbers to try in turn, such as 1,2,4.",
    default="1",
    metavar="N,...",
    several=True,
)
@click.option(
    "--all", "all_rows", is_flag=True, help="Show every comparison, not a line for each function."
)
@click.option(
    "--cell",
    "cells",
    type=click.Choice(OPTIONS["cell"].kind.choices),
    multiple=True,
    help="Recurrent cell; may be repeated.  [default: all; with --exact: rnn]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@text_options()
@option("every", "With --exact: epochs between two digests.", default=10)
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
    every: int,
    **options: Any,
) -> None:
    """Compare backends with the NumPy reference, piece by piece.

    A line for each function says that it is equal, or names the first number that differs. The last
    lines name the function to look at first. NumPy itself is compared with recorded values, and its
    gradients with finite differences.

    With --exact, train them in exact mode instead, with the settings of `train` (by default 50
    epochs), and compare their parameters to the last bit after every update: either they are equal,
    or it names the first update and parameters that differ, and says how likely rounding is the
    reason. The exit code is 1 if anything differs.
    """
    settings = specified(options)
    exact, cells = settings.pop("exact", False), list(dict.fromkeys(cells))
    if exact and len(cells) > 1:
        raise RNNScratchError(f"--exact trains one cell at a time; --cell is {', '.join(cells)}.")
    settings |= {"cell": cells[0]} if exact and cells else {}
    if not exact and (settings or corpus or text):
        stray = ", ".join(map(option_of, settings)) or "A text"
        raise RNNScratchError(f"{stray} requires --exact: the pieces are checked on fixed sizes.")
    made = Settings(**{"num_epochs": EXACT_EPOCHS, **settings, "exact": True})
    # Beside the JSON, progress goes to stderr: a pipe may pass for a terminal.
    screen = Screen(stderr=as_json)
    report = Report() if as_json else LineReport(screen.say)
    if exact:
        for number in workers:
            launch.require_shares(made.batch_size, number)
        content = books.find(corpus, text, report.say)
        schedule.require(len(dataset.prepare(content, made).train), made)
    for name in backends:
        registry.find(name)
    names = list(dict.fromkeys(backends)) or registry.loadable(report.say)
    registry.check_device(names, device)
    variants = list(dict.fromkeys(models)) or (VARIANTS[:1] if exact else VARIANTS)
    combinations = itertools.product(names, variants, workers)
    runtimes = [
        Runtime(name, model, device, workers=number) for name, model, number in combinations
    ]
    if not exact:
        sys.exit(0 if _check_pieces(runtimes, cells, all_rows, screen, as_json) else 1)
    with contextlib.suppress(RNNScratchError):  # which the models' own processes report
        growth.warn(made, content, report.say)
    with screen.bar() as bar:
        progress = _progress(bar, screen, made.num_epochs, len(runtimes))
        result = exact_mode.compare(runtimes, made, content, progress, every)
    if as_json:
        print(json.dumps(to_builtins(result), indent=2))
    else:
        _print_exact(result, screen)
    sys.exit(0 if result.equal else 1)


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
            screen.print(_table(title, rows if all_rows else _by_function(rows)))
        verdicts.append(_summary(title, rows))
        where = {"backend": runtime.backend, "model": runtime.model, "workers": runtime.workers}
        answers += [{**where, **structs.asdict(row), "passed": row.passed} for row in rows]
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        screen.print("\n" + "\n".join(verdicts))
    return all(answer["passed"] for answer in answers)


def _by_function(rows: Sequence[Row]) -> list[Row]:
    # One for each function: the first that fails, or one without a result if all are passed. And
    # one for each reason why something is not offered.
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.piece, "" if row.offered else row.note), []).append(row)
    shortened = []
    for (piece, reason), group in groups.items():
        passed = fact("", True, "", reason, piece=piece)
        passed.offered = not reason
        shortened.append(next((row for row in group if not row.passed), passed))
    return shortened


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        verdict = "not offered" if not row.offered else "ok" if row.passed else "DIFFERS"
        style = None if row.passed else "bold red"
        table.add_row(row.piece, verdict, row.sentence, style=style)
    return table


def _summary(title: str, rows: Sequence[Row]) -> str:
    failures = [row for row in rows if not row.passed]
    if not failures:
        number = sum(row.offered for row in rows)
        return f"{title}: {number} comparison{'s' * (number != 1)}, all within the tolerance."
    first = f"{failures[0].piece} {failures[0].sentence}"
    return f"{title}: {len(failures)} of {len(rows)} comparisons fail; look first at: {first}."


def _progress(
    bar: Progress, screen: Screen, num_epochs: int, models: int
) -> Callable[[ExactModel, int], None]:
    # Shows an epoch of a model on the bar or, without a terminal, in a line from time to time.
    total, titles = models * num_epochs, dict[str, None]()
    task = bar.add_task("", total=total, numbers="", left="")
    start = said = time.monotonic()

    def progress(model: ExactModel, epoch: int) -> None:
        nonlocal said
        titles[model.title] = None
        done, now = (len(titles) - 1) * num_epochs + epoch, time.monotonic()
        left = time_left((now - start) / done * (total - done) if done else None)
        title = f"training {model.title}: epoch {epoch}/{num_epochs}"
        bar.update(task, completed=done, description=title, left=left)
        if bar.disable and now - said >= QUIET:
            said = now
            screen.say(f"{title}  {left}")

    return progress


def _print_exact(result: ExactResult, screen: Screen) -> None:
    trained = [model for model in result.models if model.digests]
    if trained:
        screen.table(["epoch", "perplexity", "digest", "models"], _digests(trained))
    for model in result.models:
        if model.reason:
            screen.say(f"{model.title}: {model.outcome}: {model.reason}")
    if not trained:
        screen.print("No model was trained.")
    elif any(model.outcome == "failed" for model in result.models):
        screen.print("Not every model could be trained.")
    elif not result.equal:
        screen.print("The parameters are not equal to the last bit in all of them.")
    elif len(trained) == 1:
        screen.print("Only one model was trained: there is nothing to compare it with.")
    else:
        titles, end = ", ".join(model.title for model in trained), trained[0].digests[-1]
        screen.print(f"{titles}: equal after {end.updates:,} updates, digest {end.digest}.")
    if result.divergence:
        screen.print(result.divergence.sentence)


def _digests(models: Sequence[ExactModel]) -> list[list[str]]:
    # A row for each digest: where all are equal, one for each epoch.
    rows = []
    for epoch in dict.fromkeys(after.epoch for model in models for after in model.digests):
        ends = [(model.title, a) for model in models for a in model.digests if a.epoch == epoch]
        perplexity = format_perplexity(ends[0][1].perplexity) if epoch else ""
        for digest in dict.fromkeys(after.digest for _, after in ends):
            titles = [title for title, after in ends if after.digest == digest]
            all_equal = len(titles) == len(ends) > 1
            equals = f"all {len(titles)} equal" if all_equal else ", ".join(titles)
            rows.append([str(epoch), perplexity, digest, equals])
    return rows
