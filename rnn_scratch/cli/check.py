"""The command `check`: compare backends with the reference, and print lines or JSON."""

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
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
from ..settings import Settings, option_name
from ..text import books, dataset
from ..training.runtime import Runtime
from .options import settings_options, specified, text_options
from .screen import Screen

EXACT_EPOCHS = 50  # default number of epochs in exact mode


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
    "--cell",
    "cells",
    type=click.Choice([*CELLS]),
    multiple=True,
    help="Recurrent cell; may be repeated.  [default: all; with --exact: rnn]",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 1_000_000),
    help=f"Number of drawn cases; their seeds start at --seed.  [default: {NUM_DRAWS}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@text_options()
@settings_options(omit=["cell"], num_epochs=EXACT_EPOCHS)
def check(
    backends: Sequence[str],
    models: Sequence[str],
    cells: Sequence[str],
    device: str,
    draws: int | None,
    as_json: bool,
    corpus: str | None,
    text: str | None,
    **options: Any,
) -> None:
    """Compare backends with the NumPy reference, function by function.

    The command prints a line for each function: ok, or DIFFERS and the number that differs most.
    Sizes, cells and values are drawn from seeds: --seed N --draws 1 repeats draw N. If a comparison
    fails, the last lines name the function to look at first, and the seed of its draw. NumPy itself
    is compared with recorded values, which exist only for the default draws, and its gradients with
    finite differences.

    With --exact, train in exact mode instead, with the settings of `train` (by default, 50 epochs),
    and compare all parameters bit for bit after every update. If any differ, the command names the
    first update at which they differ, these parameters, and the growth of rounding errors.

    The exit code is 1 if anything differs.
    """
    settings, cells = specified(options), list(dict.fromkeys(cells))
    exact = settings.pop("exact", False)
    if exact and (len(cells) > 1 or draws):
        raise RNNScratchError("`--exact` trains one cell: omit `--draws`, and pass `--cell` once.")
    seed = 0 if exact else settings.pop("seed", 0)
    seeds = range(seed, seed + (draws or NUM_DRAWS))
    exact_options = settings | specified({"corpus": corpus, "text": text})
    if exact_options and not exact:
        raise RNNScratchError(
            f"Without `--exact`, omit `{'`, `'.join(map(option_name, exact_options))}`.",
            "In this case, `check` draws its inputs.",
        )
    screen = Screen(stderr=as_json)  # stdout is reserved for JSON
    if exact:
        settings |= {"cell": cells[0]} if cells else {}
        exact_settings = Settings(**{"num_epochs": EXACT_EPOCHS, **settings, "exact": True})
        content = books.find(corpus, text, screen.print_line)
        dataset.prepare(content, exact_settings)  # raises an error if the text is too short
    for name in backends:
        registry.find(name)
    names = list(dict.fromkeys(backends)) or registry.list_loadable(screen.print_line)
    registry.check_device(names, device)
    variants = list(dict.fromkeys(models)) or (VARIANTS[:1] if exact else VARIANTS)
    groups = [[Runtime(name, model, device) for model in variants] for name in names]
    if exact:
        result = _train([*itertools.chain(*groups)], exact_settings, content, screen)
        answer, passed = to_builtins(result), result.equal
    else:
        rows = [row for group in groups for row in _compare(group, cells, seeds, screen)]
        passed = all(row.passed for _, row in rows)
        answer = [
            structs.asdict(runtime) | structs.asdict(row) | {"passed": row.passed}
            for runtime, row in rows
        ]
    if as_json:
        print(json.dumps(answer, indent=2))
    sys.exit(0 if passed else 1)


def _compare(
    runtimes: Sequence[Runtime], cells: Sequence[str], seeds: Sequence[int], screen: Screen
) -> Iterator[tuple[Runtime, CheckResult]]:
    # Compare function by function, and print a line for each function.
    results = runner.run(runtimes, cells, seeds)
    for runtime, pairs in itertools.groupby(results, lambda pair: pair[0]):
        extras = [f"{runtime.threads} threads"] * (runtime.threads is not None)
        title = ", ".join((runtime.backend, runtime.model, *cells, *extras))
        screen.print_line(title)
        rows, printed = list[CheckResult](), set[str]()
        for function, group in itertools.groupby(pairs, lambda pair: pair[1].function):
            rows += (function_rows := [row for _, row in group])
            row = min(function_rows, key=lambda row: row.passed)  # the first failing row, if any
            details = "ok" if row.passed else f"DIFFERS     {row.sentence}"
            if not row.supported:
                details = f"not offered {row.location}"
            line = f"{function:<28} {details}"
            if line not in printed:  # a sequence calls functions repeatedly
                screen.print_line(line)
                printed.add(line)
        number = sum(row.supported for row in rows)
        verdict = f"{number} comparisons, all within the tolerance."
        if failures := [row for row in rows if not row.passed]:
            first = failures[0]
            verdict = (
                f"{len(failures)} of {number} comparisons fail; look first at: {first.place}: "
                f"{first.sentence}."
            )
            if first.seed is not None:
                verdict += f"\nTo repeat this draw, add: --seed {first.seed} --draws 1"
        screen.print(f"\n{title}: {verdict}\n")
        yield from ((runtime, row) for row in rows)


def _train(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, screen: Screen
) -> ExactResult:
    # Compare complete training runs in exact mode.
    with contextlib.suppress(RNNScratchError):  # the models' processes report the error
        for sentence in growth.digest_warnings(settings, text):
            screen.print_line(sentence)
    result = exact_mode.compare(runtimes, settings, text, screen.print_line)
    trained = [model for model in result.models if model.digests]
    screen.print_line("epoch  perplexity  digest")
    for row in trained[0].digests if trained else ():
        perplexity = format_perplexity(row.perplexity) if row.epoch else ""
        screen.print_line(f"{row.epoch:>5} {perplexity:>11}  {row.digest}")
    for model in result.models:
        if model.reason:
            screen.print_line(f"{model.title}: {model.outcome}: {model.reason}")
    if len(trained) == 1:
        screen.print("Only one model was trained, so there is nothing to compare it with.")
    elif result.equal:
        names, end = ", ".join(model.title for model in trained), trained[0].digests[-1]
        screen.print(f"{names}: equal after {end.updates:,} updates, digest {end.digest}.")
    return result
