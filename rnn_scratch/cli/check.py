"""The command `check`: compares backends with the reference, in lines or as JSON."""

import contextlib
import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from msgspec import structs, to_builtins

from .. import registry
from ..check import exact_mode, growth, runner
from ..check.draws import NUM_DRAWS
from ..check.exact_mode import ExactResult
from ..check.results import CheckResult
from ..contract import CELLS, VARIANTS
from ..errors import RNNScratchError
from ..runs.progress import format_perplexity
from ..settings import Epochs, Settings, Workers, option_name
from ..text import books, dataset
from ..training.runtime import Runtime
from ..workers import launch
from .options import (
    click_type,
    json_option,
    option,
    separated,
    settings_options,
    specified,
    text_options,
)
from .screen import Screen

EXACT_EPOCHS, EVERY = 50, 10  # defaults of exact mode


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    return [click_type(Workers).convert(word, param, ctx) for word in separated(value)]


@click.command()
@click.argument("backends", nargs=-1)
@click.option(
    "--model",
    "models",
    type=click.Choice(VARIANTS),
    multiple=True,
    help="Variant of the model; may be repeated.  [default: all; with --exact: scratch]",
)
@click.option("--device", default="cpu", show_default=True, help="Device: cpu, cuda, mps or auto.")
@click.option(
    "--workers",
    default="1",
    is_flag=False,
    flag_value="3,2",
    show_default=True,
    metavar="N,...",
    callback=_numbers,
    help="Number of workers, or several to try in turn, such as 1,2,4.  [without a number: 3,2]",
)
@click.option("--all", "all_rows", is_flag=True, help="Show every comparison, not only functions.")
@click.option(
    "--cell",
    "cells",
    type=click.Choice([*CELLS]),
    multiple=True,
    help="Recurrent cell; may be repeated.  [default: all; with --exact: rnn]",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 1_000_000),
    help=f"Number of drawn cases, with seeds from --seed on.  [default: {NUM_DRAWS}]",
)
@json_option
@text_options()
@option("--every", Epochs, f"With --exact: epochs between two digests.  [default: {EVERY}]")
@settings_options(omit=["cell"], num_epochs=EXACT_EPOCHS)
def check(
    backends: Sequence[str],
    models: Sequence[str],
    cells: Sequence[str],
    device: str,
    workers: Sequence[int],
    all_rows: bool,
    draws: int | None,
    as_json: bool,
    corpus: str | None,
    text: str | None,
    every: int | None,
    **options: Any,
) -> None:
    """Compare backends with the NumPy reference, function by function.

    Each function has a line: ok, or DIFFERS and the first number that differs. Sizes, cells and
    values are drawn from seeds: --seed N --draws 1 repeats draw N. If a comparison fails, the last
    lines name the function to look at first, and the command that repeats its draw. NumPy itself is
    compared with recorded values, and its gradients with finite differences.

    With --exact, train the backends in exact mode instead, with the settings of `train` (by default
    50 epochs), and compare all parameters bit for bit after every update. If they differ, the
    command names the first update and the parameters, and says whether rounding is a likely reason.

    The exit code is 1 if anything differs.
    """
    settings, cells = specified(options), list(dict.fromkeys(cells))
    exact = settings.pop("exact", False)
    if exact and (len(cells) > 1 or draws):
        raise RNNScratchError("`--exact` trains one cell on a text: omit `--draws` and more cells.")
    seed = 0 if exact else settings.pop("seed", 0)
    stray = settings | specified({"corpus": corpus, "text": text, "every": every})
    if stray and not exact:
        raise RNNScratchError(
            f"`{'`, `'.join(map(option_name, stray))}` requires `--exact`.",
            "Without `--exact`, `check` draws its inputs: omit the option.",
        )
    screen = Screen(stderr=as_json)  # stdout is for the JSON
    if exact:
        settings |= {"cell": cells[0]} if cells else {}
        chosen = Settings(**{"num_epochs": EXACT_EPOCHS, **settings, "exact": True})
        for number in workers:
            launch.require_shares(chosen.batch_size, number)
        content = books.find(corpus, text, screen.print_line)
        dataset.prepare(content, chosen)  # raise an error for a text that is too short
    for name in backends:
        registry.find(name)
    names = list(dict.fromkeys(backends)) or registry.loadable(screen.print_line)
    registry.check_device(names, device)
    variants = list(dict.fromkeys(models)) or (VARIANTS[:1] if exact else VARIANTS)
    runtimes = [
        Runtime(name, model, device, workers=number)
        for name, model, number in itertools.product(names, variants, workers)
    ]
    if exact:
        result = _train(runtimes, chosen, content, every or EVERY, screen)
        answer, passed = to_builtins(result), result.equal
    else:
        answer, passed = [], True
        for runtime in runtimes:
            fields = {
                "backend": runtime.backend,
                "model": runtime.model,
                "workers": runtime.workers,
            }
            for row in _compare(runtime, cells, seed, draws or NUM_DRAWS, all_rows, screen):
                answer.append({**fields, **structs.asdict(row), "passed": row.passed})
                passed = passed and row.passed
    if as_json:
        print(json.dumps(answer, indent=2))
    sys.exit(0 if passed else 1)


def _compare(
    runtime: Runtime,
    cells: Sequence[str],
    seed: int,
    number: int,
    all_rows: bool,
    screen: Screen,
) -> list[CheckResult]:
    # Compare function by function, and print a line for each function or for each comparison.
    workers = [f"{runtime.workers} workers"] if runtime.workers > 1 else []
    title = ", ".join((runtime.backend, runtime.model, *cells, *workers))
    rows, printed = list[CheckResult](), set[str]()
    screen.print_line(title)
    results = runner.run(runtime, cells, seed, number)
    for function, group in itertools.groupby(results, lambda row: row.function):
        rows += (group_rows := list(group))
        failures = [row for row in group_rows if not row.passed]
        short = not all_rows and group_rows[0].supported  # else every reason or comparison
        for row in (failures or group_rows)[:1] if short else group_rows:
            verdict = "ok" if row.passed else "DIFFERS"
            details = "" if short and row.passed else row.sentence
            if not row.supported:
                verdict, details = "not offered", row.location
            line = f"{function:<28} {verdict:<11} {details}".rstrip()
            if line not in printed:
                screen.print_line(line)
                printed.add(line)
    count = sum(row.supported for row in rows)
    verdict = f"{count} comparison{'s' * (count != 1)}, all within the tolerance."
    if failures := [row for row in rows if not row.passed]:
        first = failures[0]
        verdict = f"{len(failures)} of {len(rows)} comparisons fail; look first at: "
        verdict += f"{first.place}: {first.sentence}."
        if first.seed is not None:
            options = [f"--workers {runtime.workers}"] if workers else []
            options += [f"--cell {cell}" for cell in cells]
            words = [runtime.backend, "--model", runtime.model, *options, "--seed", str(first.seed)]
            verdict += f"\nTo repeat its draw, run: rnn-scratch check {' '.join(words)} --draws 1"
    screen.print(f"\n{title}: {verdict}\n")
    return rows


def _train(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, every: int, screen: Screen
) -> ExactResult:
    # Compare complete training runs in exact mode.
    with contextlib.suppress(RNNScratchError):  # the models' own processes report it
        growth.warn(settings, text, screen.print_line)
    result = exact_mode.compare(runtimes, settings, text, screen.print_line, every)
    trained = [model for model in result.models if model.digests]
    titles: dict[tuple[int, str, str], list[str]] = {}  # model titles, keyed by table row
    for model in trained:
        for after in model.digests:
            perplexity = format_perplexity(after.perplexity) if after.epoch else ""
            titles.setdefault((after.epoch, after.digest, perplexity), []).append(model.title)
    screen.print_line("epoch  perplexity  digest            models")
    for (epoch, digest, perplexity), equal in sorted(titles.items(), key=lambda item: item[0][0]):
        names = f"all {len(equal)} equal" if len(equal) == len(trained) > 1 else ", ".join(equal)
        screen.print_line(f"{epoch:>5} {perplexity:>11}  {digest}  {names}")
    for model in result.models:
        if model.reason:
            screen.print_line(f"{model.title}: {model.outcome}: {model.reason}")
    if any(model.untrained for model in trained):
        screen.print_line(growth.UNTRAINED)
    if result.divergence:
        screen.print_line(f"The models' parameters differ. {result.divergence.sentence}")
    elif len(trained) == 1:
        screen.print("Only one model was trained: there is nothing to compare it with.")
    elif result.equal:
        names, end = ", ".join(model.title for model in trained), trained[0].digests[-1]
        screen.print(f"{names}: equal after {end.updates:,} updates, digest {end.digest}.")
    return result
