"""The command `check`: compare backends, or the functions in a file, with the reference."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import click
from msgspec import structs, to_builtins

from .. import registry
from ..check import exact_mode, growth, runner, user_file
from ..check.draws import NUM_DRAWS
from ..check.results import CheckResult, Verdict
from ..contract import CELLS, VARIANTS
from ..errors import RNNScratchError
from ..runs.progress import format_perplexity
from ..settings import Settings, option_name
from ..show import source_code
from ..text import books, dataset
from ..training.runtime import Runtime
from .options import settings_options, specified, text_options
from .screen import Screen

EXACT_EPOCHS = 50  # default number of epochs in exact mode
Row = tuple[Runtime, CheckResult]


class CheckCommand(click.Command):
    """A command whose help lists the options that need --exact separately."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write two groups of options."""
        records = [param.get_help_record(ctx) for param in self.params]
        first = [param.name for param in self.params].index("corpus")
        groups = {"Options": records[:first], "Options that require --exact": records[first:]}
        for title, group in groups.items():
            with formatter.section(title):
                formatter.write_dl([record for record in group if record])


@click.command(cls=CheckCommand)
@click.argument("targets", nargs=-1, metavar="[BACKEND | FILE]...")
@click.option("--backend", help="Backend for the functions in FILE.  [default: what it imports]")
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
@click.option("--seed", type=click.IntRange(0), default=0, help="Random seed.  [default: 0]")
@click.option("--exact", is_flag=True, help="Train in exact mode, and compare all parameters.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@text_options()
@settings_options(omit=["cell", "exact", "seed"], num_epochs=EXACT_EPOCHS)
def check(
    targets: Sequence[str],
    backend: str | None,
    models: Sequence[str],
    cells: Sequence[str],
    device: str,
    draws: int | None,
    seed: int,
    exact: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare backends with the NumPy reference, function by function.

    For each function, the command prints ok, or DIFFERS and the number that differs most. Sizes,
    cells and values are drawn from seeds: --seed N --draws 1 repeats draw N. If a comparison fails,
    the last lines name the function to look at. NumPy itself is compared with recorded values,
    which exist only for the default draws, and its gradients with finite differences.

    For a FILE, such as mine.py, the command compares the functions that the file defines and that
    have the name of one of the project's functions (rnn, step, loss, clip, adam, predict, ...), or
    of a cell that the file adds to rnn_scratch.contract.CELLS. It runs the file.

    With --exact, train in exact mode instead, with the settings of `train` (by default, 50 epochs),
    and compare all parameters bit for bit after every update. If any differ, the command names the
    first update at which they differ, these parameters, and the growth of rounding errors.

    The exit code is 1 if anything differs, and 2 if something cannot be checked.
    """
    screen = Screen(stderr=as_json)  # stdout is reserved for JSON
    settings, files = specified(options), [name for name in targets if name.endswith(".py")]
    if settings and not exact:
        problem = f"`{option_name(next(iter(settings)))}` requires `--exact`."
        raise RNNScratchError(problem, "Without it, inputs are drawn at random.")
    if files and (exact or len(files) < len(targets)):
        raise RNNScratchError("Check files and backends in separate commands, without `--exact`.")
    if backend and not files:
        raise RNNScratchError("`--backend` requires a file.", "Pass backends as arguments.")
    if exact and draws:
        raise RNNScratchError("`--draws` has no effect with `--exact`.", "Omit one of them.")
    if exact and len(cells) > 1:
        raise RNNScratchError("`--exact` trains one cell.", "Pass `--cell` once.")
    if files:
        verdicts = list(chain(*(_check_file(Path(name), backend, screen) for name in files)))
        answer, exit_code = to_builtins(verdicts), max(v.exit_code for v in verdicts)
    else:
        for name in targets:
            registry.find(name)
        names = list(dict.fromkeys(targets)) or registry.list_loadable(screen.print_line)
        variants = list(dict.fromkeys(models)) or (VARIANTS[:1] if exact else VARIANTS)
        groups = [[Runtime(name, model, device) for model in variants] for name in names]
        if exact:
            settings |= {"seed": seed, "cell": (*cells, Settings().cell)[0]}
            answer, exit_code = _train([*chain(*groups)], settings, screen)
        else:
            seeds = range(seed, seed + (draws or NUM_DRAWS))
            rows = [row for group in groups for row in _compare(group, cells, seeds, screen)]
            _print_diagnosis(rows, cells, screen)
            exit_code = int(not all(row.passed for _, row in rows))
            answer = [
                structs.asdict(runtime) | structs.asdict(row) | {"passed": row.passed}
                for runtime, row in rows
            ]
    if as_json:
        print(json.dumps(answer, indent=2))
    sys.exit(exit_code)


def _count(number: int) -> str:
    return f"{number:,} comparison{'s' * (number != 1)}"


def _compare(
    runtimes: Sequence[Runtime], cells: Sequence[str], seeds: Sequence[int], screen: Screen
) -> Iterator[Row]:
    # Compare function by function; print a line for each function up to the first that differs.
    folder = source_code.files(runtimes[0].backend)[0].parent
    results = runner.run(runtimes, cells, seeds)
    for runtime, pairs in groupby(results, lambda pair: pair[0]):
        threads = "" if runtime.threads is None else f", {runtime.threads} threads"
        title = ", ".join((runtime.backend, runtime.model, *cells))
        screen.print_line(f"{title}{threads} ({folder})")
        rows, printed, failed = list[CheckResult](), set[str](), set[str]()
        for function, group in groupby(pairs, lambda pair: pair[1].function):
            rows += (function_rows := [row for _, row in group])
            row = min(function_rows, key=lambda row: row.passed)  # the first failing row, if any
            line = f"{function:<28} {row.outcome}"
            if not failed and line not in printed:  # a sequence calls functions repeatedly
                screen.print_line(line)
                printed.add(line)
            failed |= set() if row.passed else {function}
        if len(failed) > 1:
            screen.print_line(f"... and {len(failed) - 1} more that may differ as a consequence")
        num_failures = sum(not row.passed for row in rows)
        comparisons = _count(sum(row.supported for row in rows))
        failures = f"{num_failures:,} of {comparisons} failed"
        screen.print_line(f"{failures if failed else comparisons}\n")
        yield from ((runtime, row) for row in rows)


def _print_diagnosis(rows: Sequence[Row], cells: Sequence[str], screen: Screen) -> None:
    # Print the result of all comparisons; for each backend that fails, the function to look at.
    failures = [(runtime, row) for runtime, row in rows if not row.passed]
    if not failures and any(row.supported for _, row in rows):
        screen.print_line(f"{_count(sum(row.supported for _, row in rows))} within the tolerance.")
    first = {runtime.backend: (runtime, row) for runtime, row in reversed(failures)}
    for runtime, row in reversed(first.values()):
        if not row.file:
            screen.print_line(f"{runtime.backend}: {row.sentence}.")
            continue
        found = source_code.find(runtime.backend, row.function, runtime.model)
        place = f"{found[0].file}, line {found[0].line}" if found else row.file
        screen.print_line(
            f"Look first at `{row.function}` ({place}), which differs from the reference:\n"
            f"  {row.problem}\n"
            f"  in {row.case}"
        )
        if row.seed is not None:
            options = [f"--cell {cell}" for cell in cells] + [f"--seed {row.seed} --draws 1"]
            command = f"rnn-scratch check {runtime.backend} --model {runtime.model}"
            screen.print_line(f"To repeat this draw:\n{command} {' '.join(options)}")


def _check_file(path: Path, backend: str | None, screen: Screen) -> Iterator[Verdict]:
    # Compare the functions of a file; print a line for each, and then the differences.
    source, framework = user_file.read_source(path)
    name = backend or framework
    registry.find(name)
    screen.print_line(f"{path.resolve()}, compared in the {name} backend")
    explanations = list[str]()
    for verdict in user_file.check_source(source, str(path), name):
        right = f"right, in {_count(verdict.num_comparisons)}"
        outcome = (right, "DIFFERS", "cannot be checked")[verdict.exit_code]
        screen.print_line(f"{verdict.function:<16} {outcome}")
        explanations += ["", *verdict.explain(str(path))] if verdict.exit_code else []
        yield verdict
    for line in explanations:
        screen.print_line(line)


def _train(
    runtimes: Sequence[Runtime], options: dict[str, Any], screen: Screen
) -> tuple[dict[str, Any], int]:
    # Compare complete training runs in exact mode; return the result and the exit code.
    text = books.find(options.pop("corpus", None), options.pop("text", None), screen.print_line)
    settings = Settings(**{"num_epochs": EXACT_EPOCHS, **options, "exact": True})
    dataset.prepare(text, settings)  # raises an error if the text is too short
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
    return to_builtins(result), int(not result.equal)
