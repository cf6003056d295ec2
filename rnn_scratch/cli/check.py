"""The command `check`: compares backends with the reference, in tables or as JSON."""

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from .. import api, registry
from ..check import divergence, exact_mode, runner, team
from ..check.certificate import Sample
from ..check.exact_mode import Run
from ..check.inputs import Row
from ..contract import VARIANTS, RNNScratchError
from ..runs import training
from ..runs.progress import format_perplexity
from ..settings import EPOCHS as MOST_EPOCHS
from ..settings import Settings, make, option_of
from ..system.terminal import echo
from ..workers import launch
from . import display
from .options import Numbers, settings_from, settings_options, text_options

EPOCHS = 50  # in exact mode
MOST_COLUMNS = 5  # of digests, side by side


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
@click.option(
    "--workers",
    "workers",
    type=Numbers(),
    default="1",
    metavar="N,...",
    help="Number of workers, or several numbers to try in turn, such as 1,2,4.  [default: 1]",
)
@click.option(
    "--all", "all_rows", is_flag=True, help="Show every comparison, not only the worst ones."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@text_options
@click.option(
    "--every",
    type=click.IntRange(1, MOST_EPOCHS),
    default=10,
    show_default=True,
    help="With --exact: epochs between two digests.",
)
@settings_options(num_epochs=EPOCHS, cell="all; with --exact: rnn")
def check(
    backends: Sequence[str],
    models: Sequence[str],
    device: str,
    workers: Sequence[int],
    all_rows: bool,
    as_json: bool,
    corpus: str | None,
    text: str | None,
    every: int,
    no_clip: bool,
    **options: Any,
) -> None:
    """Compare backends with the NumPy reference, piece by piece; NumPy itself with recorded values.

    With --exact, train them in exact mode instead, with the settings of `train` (by default 50
    epochs), and compare their parameters to the last bit: either they are equal, and it says how
    close they came to diverging, or it names the first update and element that differ. The exit
    code is 1 if anything differs.
    """
    settings = settings_from(options, no_clip)
    exact = settings.pop("exact", False)
    cells = [settings.pop("cell")] if "cell" in settings and not exact else []
    if not exact and (settings or corpus or text):
        stray = ", ".join(map(option_of, settings)) or "A text"
        stray = stray.replace("--theta", "--no-clip") if no_clip else stray
        raise RNNScratchError(f"{stray} requires --exact: the pieces are checked on fixed sizes.")
    if exact:
        settings = {"num_epochs": EPOCHS, **settings}
        models = list(dict.fromkeys(models)) or VARIANTS[:1]
        made = make({**settings, "exact": True})
        for number in workers:
            launch.require_shares(made.batch_size, number)
        equal = compare_digests(
            backends, models, workers, device, made, corpus, text, every, as_json
        )
    else:
        models = list(dict.fromkeys(models)) or VARIANTS
        equal = compare_pieces(backends, models, workers, device, cells, all_rows, as_json)
    sys.exit(0 if equal else 1)


def compare_pieces(
    names: Sequence[str],
    models: Sequence[str],
    workers: Sequence[int],
    device: str,
    cells: Sequence[str],
    all_rows: bool,
    as_json: bool,
) -> bool:
    """Compare each backend's models with the reference; whether all is within the tolerance.

    Without names of cells, with all of them. With several workers, what they compute together.
    """
    # Beside the JSON, progress goes to stderr: a pipe may pass for a terminal.
    screen = display.console(stderr=as_json)
    answers: list[dict[str, Any]] = []
    backends = _backends(names, screen, as_json)
    registry.check_device(backends, device)
    for name, model, number in itertools.product(backends, models, workers):
        title = ", ".join((name, model, *cells, *([f"{number} workers"] if number > 1 else [])))
        with screen.status(f"checking {title} ..."):
            rows = list(
                runner.rows(name, model, device, cells)
                if number == 1
                else team.rows(name, model, device, number)
            )
        answers += [
            {
                "backend": name,
                "model": model,
                "workers": number,
                **row._asdict(),
                "passed": row.passed,
            }
            for row in rows
        ]
        if not as_json:
            screen.print(_table(title, rows if all_rows else runner.collapse(rows)))
            screen.print(_summary(title, rows), soft_wrap=True)
    if as_json:
        echo(json.dumps(answers, indent=2, ensure_ascii=False))
    return all(answer["passed"] for answer in answers)


def compare_digests(
    names: Sequence[str],
    models: Sequence[str],
    workers: Sequence[int],
    device: str,
    settings: Settings,
    corpus: str | None,
    text: str | None,
    every: int,
    as_json: bool,
) -> bool:
    """Train each backend's models in exact mode; whether all parameters are equal."""
    screen = display.console(stderr=as_json)
    report = training.Report() if as_json else display.ConsoleReport(screen)
    content = api.find_text(corpus, text, report)
    runs: list[Run] = []
    sample = Sample()
    backends = _backends(names, screen, as_json)
    registry.check_device(backends, device)
    with screen.status("") as status:

        def progress(run: Run, epoch: int) -> None:
            status.update(f"training {run.title}: epoch {epoch}/{settings.num_epochs}")

        for name, model, number in itertools.product(backends, models, workers):
            status.update(f"training {name}, {model} ...")
            what = (device, settings, content, sample, progress)
            runs.append(exact_mode.train(name, model, *what, number))
        first = divergence.first_difference(runs)
        located = first and divergence.locate(*first, device, settings, content, progress)
    certificate = exact_mode.certificate(runs, sample, located)
    trained = [run for run in runs if run.epochs]
    complete = bool(trained) and all(run.outcome != "failed" for run in runs)
    equal = complete and located is None
    epochs = sorted({*range(0, settings.num_epochs, every), settings.num_epochs})
    if as_json:
        answer = {
            "settings": settings.__dict__,
            "text": content.sha256,
            "runs": [run.record(epochs) for run in runs],
            "equal": equal,
            "certificate": certificate,
        }
        echo(json.dumps(answer, indent=2))
        return equal
    screen.print(_digest_table(trained, epochs))
    for run in runs:
        if run.reason:
            screen.print(f"{run.title}: {run.outcome}: {run.reason}", soft_wrap=True)
    screen.print(_verdict(trained, complete, equal), soft_wrap=True)
    if certificate["sentence"]:
        screen.print(certificate["sentence"], soft_wrap=True)
    return equal


def _backends(names: Sequence[str], screen: Console, quiet: bool) -> list[str]:
    # These backends; without names, those that are ready, and a line for each that is not.
    if names:
        for name in names:
            registry.find(name)
        return list(dict.fromkeys(names))
    say = display.ConsoleReport(screen).say
    return registry.usable((lambda line: None) if quiet else say)


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for column in ("piece", "result", "case"):
        table.add_column(column, no_wrap=True)
    for column in ("largest difference", "where", "tolerance", "verdict", "note"):
        table.add_column(column)
    for row in rows:
        difference = "-" if row.difference is None else f"{row.difference:.1e}"
        verdict = "not offered" if not row.offered else "ok" if row.passed else "DIFFERS"
        table.add_row(
            row.piece,
            row.result,
            row.case,
            difference,
            row.where,
            f"{row.allowed:.1e}",
            verdict,
            row.note,
            style=None if row.passed else "bold red",
        )
    return table


def _summary(title: str, rows: Sequence[Row]) -> str:
    failures = [row for row in rows if not row.passed]
    if not failures:
        number = sum(row.offered for row in rows)
        return f"{title}: {number} comparison{'s' * (number != 1)}, all within the tolerance.\n"
    first = failures[0]
    what = " ".join(filter(None, (first.piece, first.result, first.case and f"in {first.case}")))
    return f"{title}: {len(failures)} of {len(rows)} comparisons fail; look first at: {what}.\n"


def _digest_table(runs: Sequence[Run], epochs: Sequence[int]) -> Table:
    if len(runs) > MOST_COLUMNS:
        return _digest_rows(runs, epochs)
    table = Table("epoch", "perplexity", *(run.title for run in runs), "", box=None)
    for epoch in epochs:
        rows = [run.epochs[epoch] if epoch < len(run.epochs) else None for run in runs]
        digests = [row["digest"] if row else "" for row in rows]
        perplexities = [row["perplexity"] for row in rows if row]
        if perplexities:
            perplexity = format_perplexity(perplexities[0]) if epoch else ""
            same = "equal" if len(set(digests)) == 1 else "DIFFERENT"
            table.add_row(str(epoch), perplexity, *digests, same)
    return table


def _digest_rows(runs: Sequence[Run], epochs: Sequence[int]) -> Table:
    # A row for each digest, where the runs would be too many columns.
    table = Table("epoch", "perplexity", "digest", "models", box=None)
    for epoch in epochs:
        trained = [(run, run.epochs[epoch]) for run in runs if epoch < len(run.epochs)]
        digests = list(dict.fromkeys(row["digest"] for _, row in trained))
        for digest in digests:
            titles = [run.title for run, row in trained if row["digest"] == digest]
            models = f"all {len(titles)} equal" if len(digests) == 1 else ", ".join(titles)
            perplexity = format_perplexity(trained[0][1]["perplexity"]) if epoch else ""
            table.add_row(str(epoch), perplexity, digest, models)
    return table


def _verdict(runs: Sequence[Run], complete: bool, equal: bool) -> str:
    if not runs:
        return "No model was trained."
    if not complete:
        return "Not every model could be trained."
    if not equal:
        return "The parameters are not equal to the last bit in all of them."
    if len(runs) == 1:
        return "Only one model was trained: there is nothing to compare it with."
    return f"{', '.join(run.title for run in runs)}: the same parameters to the last bit."
