"""The `check` command: compare backends, or the functions in a file, with the reference."""

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins
from msgspec.structs import asdict

from .. import api, registry
from ..check import answers, exact_mode, runner, source_file, user_file
from ..check.draws import NUM_DRAWS
from ..check.exact_mode import ExactResult
from ..check.results import BACKEND, CheckResult, Verdict
from ..check.vector_files import SUFFIXES
from ..contract import CELLS, VARIANTS
from ..errors import RNNScratchError
from ..settings import Settings, option_name
from ..show import source_code
from ..system.files import user_path
from ..text import books
from ..training.runtime import Runtime
from .options import GroupedCommand, derived_options, settings_options, specified
from .screen import Screen

EXACT_EPOCHS = 50  # default number of epochs in exact mode
Row = tuple[Runtime, CheckResult]


@click.command(
    cls=GroupedCommand,
    common="variants cells cases seed exact backend as_json",
    rest="Functions",
    prefix="With --exact: ",
)
@click.argument("targets", nargs=-1, metavar="[BACKEND | FILE | ANSWERS]...")
@click.option(
    "--backend",
    metavar="NAME",
    help="Backend for the functions in FILE.  [default: what it imports]",
)
@click.option("--variant", "variants", type=click.Choice(VARIANTS), multiple=True, help="Variant.")
@click.option("--device", default="cpu", show_default=True, help="Device: cpu, cuda, mps or auto.")
@click.option("--cell", "cells", type=click.Choice([*CELLS]), multiple=True, help="Recurrent cell.")
@settings_options(only=("seed",))
@click.option(
    "--cases", type=click.IntRange(1), metavar="N", help=f"Number of seeds.  [default: {NUM_DRAWS}]"
)
@click.option("--exact", is_flag=True, help="Train in exact mode, and compare all parameters.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@derived_options(api.train, only=("corpus", "text"))
@settings_options(omit=("cell", "seed", "exact"), num_epochs=EXACT_EPOCHS, dtype="float64")
def check(
    targets: Sequence[str],
    backend: str | None,
    variants: Sequence[str],
    device: str,
    cells: Sequence[str],
    cases: int | None,
    exact: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Verify backends, or the functions in a FILE, against the NumPy reference.

    A line for each function says right, or DIFFERS and where; the last lines name what to fix.
    Cases are drawn, for each seed one with each cell: --seed N --cases 1 repeats those of seed N.
    --variant and --cell may be repeated; without them, all are compared. NumPy is compared with
    finite differences and recorded values.

    A FILE, such as mine.py, is executed; its output is hidden. Its functions are compared if they
    have a name like one of the project's (rnn, step, loss, clip, adam, ...), or of a cell that the
    file adds to rnn_scratch.contract.CELLS; so are its layers of PyTorch, Keras and Flax. Their
    arguments and results may have other forms, such as those of the book; a line says which form
    was recognized. Of a FILE that imports d2l, the book's package, only the definitions are
    executed, and known errata are named; d2l need not be installed. Use only --backend and --json
    with a FILE.

    ANSWERS, such as answers.json, is a file with the outputs that a program in any language
    computed for the inputs that `rnn-scratch vectors` writes. Use only --json with it.

    With --exact, models are trained in exact mode instead, and compared bit for bit after every
    update. `--help-all` lists the options that require --exact.

    The exit code is 1 if anything differs, and 2 if something cannot be checked.
    """
    screen = Screen(stderr=as_json)  # stdout is reserved for JSON
    settings, is_file = specified(options), any(name.endswith(".py") for name in targets)
    is_answers = any(name.endswith(SUFFIXES) for name in targets)
    cells, seed = [*dict.fromkeys(cells)], settings.get("seed", 0)
    others = targets[1:] or variants or cells or cases or exact or settings or device != "cpu"
    unused = [option_name(n) for n in settings if n != "seed" and not exact]
    for is_wrong, problem, hint in (
        (
            unused,
            f"These options require `--exact`: {', '.join(unused)}.",
            "Add `--exact`, or omit them.",
        ),
        (backend and not is_file, "`--backend` requires a file.", "Pass backends as arguments."),
        (
            is_file and others,
            "A FILE is checked alone.",
            "With a file, use only `--backend` and `--json`.",
        ),
        (
            exact and cells[1:],
            f"`--exact` trains one cell (got {', '.join(cells)}).",
            "Choose one.",
        ),
        (is_answers and others, "ANSWERS are checked alone.", "Pass only `--json`."),
        (exact and cases, "`--cases` has no effect with `--exact`.", "Omit one of them."),
    ):
        if is_wrong:
            raise RNNScratchError(problem, hint)
    if is_file:
        verdicts = list(_check_file(targets[0], backend, screen))
        answer, exit_code = to_builtins(verdicts), max(v.exit_code for v in verdicts)
    elif is_answers:
        compared = _check_answers(targets[0], screen)
        answer, exit_code = to_builtins(compared), int(any(v.wrong for v in compared))
    else:
        names = [name for name in dict.fromkeys(targets) if registry.find(name)]
        names = names or registry.list_loadable(screen.print_line)
        chosen = list(dict.fromkeys(variants)) or (VARIANTS[:1] if exact else VARIANTS)
        groups = [[Runtime(name, variant, device) for variant in chosen] for name in names]
        if exact:
            settings |= {"cell": cells[0]} if cells else {}
            result = _train([*chain(*groups)], settings, screen)
            answer, exit_code = to_builtins(result), int(not result.equal)
            num_trained = sum(bool(model.digests) for model in result.models)
            if result.equal and num_trained == 1 < len(result.models):  # nothing was compared
                exit_code = 2
        else:
            seeds = range(seed, seed + (cases or NUM_DRAWS))
            rows = [row for group in groups for row in _compare(group, cells, seeds, screen)]
            _print_diagnosis(rows, screen)
            answer = [asdict(runtime) | asdict(r) | {"passed": r.passed} for runtime, r in rows]
            codes = [2 if row.function == BACKEND else 1 for _, row in rows if not row.passed]
            # By default, a backend may lack a variant, and a variant the chosen cells.
            for name in _find_uncompared(rows, [*chain(*groups)], by_variant=bool(variants)):
                screen.print_line(f"{name}: nothing was compared. Choose another variant or cell.")
                codes.append(2)
            exit_code = min(codes, default=0)
    if as_json:
        print(json.dumps(answer, indent=2))
    sys.exit(exit_code)


def _compare(
    runtimes: Sequence[Runtime], cells: Sequence[str], seeds: Sequence[int], screen: Screen
) -> Iterator[Row]:
    """Compare one function at a time, printing a line for each up to the first difference."""
    for runtime, pairs in groupby(runner.run(runtimes, cells, seeds), lambda pair: pair[0]):
        threads = f", {runtime.threads} threads" if runtime.threads else ""
        folder = source_code.files(runtime.backend)[0].parent
        screen.print_line(f"{runtime.backend}, {runtime.variant}{threads} ({folder})")
        lines, has_failed = set[str](), False
        for function, group in groupby(pairs, lambda pair: pair[1].function):
            rows = [row for _, row in group]
            row = min(rows, key=lambda row: row.passed)  # the first failing row, if any
            line = f"{function:<28} {row.outcome}"
            if not has_failed and line not in lines:  # skip repeats from `training.sequence`
                screen.print_line(line)
            lines.add(line)
            has_failed |= not row.passed
            yield from ((runtime, row) for row in rows)
        screen.print_line()


def _find_uncompared(
    rows: Sequence[Row], runtimes: Sequence[Runtime], by_variant: bool
) -> list[str]:
    """Return the backends or, with `by_variant`, the variants of which nothing was compared."""

    def name(runtime: Runtime) -> str:
        return runtime.backend + f", {runtime.variant}" * by_variant

    compared = {name(r) for r, row in rows if row.supported and row.function != "signature"}
    return [name for name in dict.fromkeys(map(name, runtimes)) if name not in compared]


def _print_diagnosis(rows: Sequence[Row], screen: Screen) -> None:
    """Print how much was compared and each backend's first function that differs."""
    for backend, group in groupby(rows, lambda pair: pair[0].backend):
        functions = dict[str, set[str]]()
        for runtime, row in group:
            names = functions.setdefault(runtime.variant, set())
            if row.supported and row.function not in ("signature", BACKEND):
                names.add(row.function)
        counts = ", ".join(f"{variant} {len(names)}" for variant, names in functions.items())
        screen.print_line(f"{backend}: functions compared: {counts}")
    failures = [(runtime, row) for runtime, row in rows if not row.passed]
    if count := sum(row.supported and row.function != BACKEND for _, row in rows):
        end = f": {len(failures):,} failed; later failures may be consequences."
        screen.print_line(f"{count:,} comparisons{end if failures else ' within the tolerance.'}")
    first = {runtime.backend: (runtime, row) for runtime, row in reversed(failures)}
    for runtime, row in reversed(first.values()):
        found = source_code.find(runtime.backend, row.function, runtime.variant)
        if not found and row.seed is None:  # not a comparison of a case
            screen.print_line(f"{runtime.backend}: {row.sentence}")
            continue
        line = f" ({found[0].file}, line {found[0].line})" if found else f" in {runtime.variant}"
        place = f"`{row.function}`{line}"
        title = f"Look first at {place}, which differs from the reference:"
        screen.print_line(f"{title}\n  {row.problem}\n  in {row.case}")
        command = (
            f"rnn-scratch check {runtime.backend} --variant {runtime.variant} --seed {row.seed}"
        )
        command += " --cases 1" + f" --device {runtime.device}" * (runtime.device != "cpu")
        command += f" --cell {row.case.split()[1]}"
        screen.print_line(f"To repeat this case:\n{command}")


def _check_file(path: str, backend: str | None, screen: Screen) -> Iterator[Verdict]:
    """Compare the functions in a file, printing a line for each and then the differences."""
    source, framework = source_file.read_source(Path(path))
    name, explanations = backend or framework, list[str]()
    screen.print_line(f"{Path(path).resolve()}, compared in the {name} backend")
    try:
        for verdict in user_file.check_source(source, path, name):
            is_known = verdict.form or source_code.find(name, verdict.function, "scratch")
            term = "right" if is_known else "consistent"
            right = f"{term}, in {verdict.num_comparisons:,} comparisons"
            outcome = (right, "DIFFERS", "cannot be checked")[verdict.exit_code]
            screen.print_line(f"{verdict.function:<16} {outcome}")
            if verdict.form:
                screen.print_line(f"  recognized as {verdict.form}")
            for erratum in verdict.errata:
                screen.print_line(f"  contains the book's {erratum}")
            explanations += ["", *verdict.explain(path)] if verdict.exit_code else []
            yield verdict
    finally:  # also after Ctrl-C, for instance in a function that never returns
        screen.print_line("\n".join(explanations))


def _check_answers(path: str, screen: Screen) -> list[answers.FunctionVerdict]:
    """Compare a program's answers, printing a line for each function and the first differences."""
    verdicts = answers.check_answers(user_path(path))
    for verdict in verdicts:
        screen.print_line(f"{verdict.function:<16} {verdict.outcome}")
    for verdict in verdicts:
        if lines := verdict.explain():
            screen.print_line("\n".join(["", *lines]))
    right, wrong, missing = (
        sum(getattr(v, name) for v in verdicts) for name in ("right", "wrong", "missing")
    )
    screen.print_line(f"\n{right} right, {wrong} different, {missing} not implemented.")
    return verdicts


def _train(runtimes: Sequence[Runtime], options: dict[str, Any], screen: Screen) -> ExactResult:
    """Compare complete training runs in exact mode."""
    text = books.find(options.pop("corpus", None), options.pop("text", None), screen.print_line)
    settings = Settings(**{"num_epochs": EXACT_EPOCHS, **options, "exact": True})
    with screen.progress_bar() as bar:
        update = partial(bar.update, bar.add_task("", total=1))
        result = exact_mode.compare(runtimes, settings, text, screen.print_line, update)
    for model in result.models:
        if model.reason:
            screen.print_line(f"{model.title}: {model.outcome}: {model.reason}")
    if result.equal:
        screen.print_line(result.summary)
    return result
