"""The command `check`: compares backends with the reference, in tables or as JSON."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from .. import api, registry
from ..check import checks
from ..check.cases import Row
from ..contract import RNNScratchError
from ..runs import training
from ..settings import make, option_of
from . import display
from .options import settings_from, settings_options, text_options


@click.command()
@click.argument("backends", nargs=-1)
@click.option(
    "--model", type=click.Choice(["scratch", "concise"]), help="One only.  [default: both]"
)
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda, mps.")
@click.option(
    "--all", "everything", is_flag=True, help="Show every comparison, not the worst ones."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@text_options
@click.option("--every", type=click.IntRange(1), default=10, show_default=True,
              help="In exact mode: epochs between two digests.")  # fmt: skip
@settings_options
def check(
    backends: Sequence[str], model: str | None, device: str, everything: bool, as_json: bool,
    corpus: str | None, text: str | None, every: int, no_clip: bool, **options: Any,
) -> None:  # fmt: skip
    """Hold backends against the NumPy reference, piece by piece; NumPy, to numbers kept of it.

    With --exact, train them in exact mode instead, with the settings of `train` (50 epochs if not
    given), and compare their parameters to the last bit. The exit code is 1 when anything is off.
    """
    settings = settings_from(options, no_clip)
    exact = settings.pop("exact", False)
    if not exact and (settings or corpus or text):
        stray = ", ".join(map(option_of, settings)) or "A text"
        stray = stray.replace("--theta", "--no-clip") if no_clip else stray
        raise RNNScratchError(f"{stray} goes with --exact: the pieces are checked on fixed sizes.")
    if exact:
        chosen = model or "scratch"
        settings = {"num_epochs": 50, **settings}
        good = exact_digests(backends, chosen, device, settings, corpus, text, every, as_json)
    else:
        models = [model] if model else ["scratch", "concise"]
        good = pieces(backends, models, device, everything, as_json)
    sys.exit(0 if good else 1)


def pieces(
    names: Sequence[str], models: Sequence[str], device: str, everything: bool, as_json: bool
) -> bool:
    """Hold each backend's models against the reference; whether all is within what is allowed."""
    # What is at work is told beside the JSON, not in it: a pipe may pass for a terminal.
    screen = display.console(stderr=as_json)
    answers: list[dict[str, Any]] = []
    for name in _present(names, screen, as_json):
        for model in models:
            title = f"{name}, {model}"
            with screen.status(f"checking {title} ..."):
                rows = list(checks.rows(name, model, device))
            answers += [
                {"backend": name, "model": model, **row._asdict(), "passed": row.passed}
                for row in rows
            ]
            if not as_json:
                screen.print(_table(title, rows if everything else checks.collapse(rows)))
                screen.print(_summary(title, rows), soft_wrap=True)
    if as_json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    return all(answer["passed"] for answer in answers)


def exact_digests(
    names: Sequence[str], model: str, device: str, values: dict[str, Any],
    corpus: str | None, text: str | None, every: int, as_json: bool,
) -> bool:  # fmt: skip
    """Train each backend in exact mode; whether all parameters are equal to the last bit."""
    screen = display.console(stderr=as_json)
    report = training.Report() if as_json else display.Lines(screen)
    settings = make({**values, "exact": True})
    found_text = api.find_text(corpus, text, report)
    found: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    for name in _present(names, screen, as_json):
        found[name] = []
        with screen.status(f"training {name} ...") as status:
            try:
                for row in checks.digests(name, model, device, settings, found_text, every):
                    found[name].append(row)
                    status.update(f"training {name}: epoch {row['epoch']}/{settings.num_epochs}")
            except RNNScratchError as error:
                failed[name] = str(error)
    equal = not failed and len({json.dumps([r["digest"] for r in f]) for f in found.values()}) == 1
    if as_json:
        whole = {"settings": settings.__dict__, "text": found_text.sha256, "backends": found,
                 "failed": failed, "equal": equal}  # fmt: skip
        print(json.dumps(whole, indent=2))
        return equal
    screen.print(_digest_table(found))
    for name, reason in failed.items():
        screen.print(f"{name} failed: {reason}", soft_wrap=True)
    screen.print(_verdict(found, equal), soft_wrap=True)
    return equal


def _present(names: Sequence[str], screen: Console, quiet: bool) -> list[str]:
    # The backends asked for; without names, those that are ready, and a line for each that is not.
    if names:
        for name in names:
            registry.known(name)
        return list(dict.fromkeys(names))
    say = display.Lines(screen).say
    return registry.ready((lambda line: None) if quiet else say)


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for column in ("piece", "result", "case"):
        table.add_column(column, no_wrap=True)
    for column in ("largest difference", "where", "allowed", "verdict", ""):
        table.add_column(column)
    for row in rows:
        difference = "-" if row.difference is None else f"{row.difference:.1e}"
        verdict = (
            "not offered" if row.piece in ("concise", "device") else "ok" if row.passed else "OFF"
        )
        table.add_row(
            row.piece, row.result, row.case, difference, row.where, f"{row.allowed:.1e}", verdict,
            row.note, style=None if row.passed else "bold red",
        )  # fmt: skip
    return table


def _summary(title: str, rows: Sequence[Row]) -> str:
    off = [row for row in rows if not row.passed]
    if not off:
        return f"{title}: {len(rows)} comparisons, all within what is allowed.\n"
    first = off[0]
    what = " ".join((first.piece, first.result, "in", first.case)).strip()
    return f"{title}: {len(off)} of {len(rows)} comparisons are off; look first at: {what}.\n"


def _digest_table(found: dict[str, list[dict[str, Any]]]) -> Table:
    table = Table("epoch", "perplexity", *found, "", box=None)
    longest = max(found.values(), key=len, default=[])
    for number, row in enumerate(longest):
        cells = [rows[number]["digest"] if number < len(rows) else "" for rows in found.values()]
        perplexity = display.shown(row["perplexity"]) if row["epoch"] else ""
        same = "equal" if len(set(cells)) == 1 else "DIFFERENT"
        table.add_row(str(row["epoch"]), perplexity, *cells, same)
    return table


def _verdict(found: dict[str, list[dict[str, Any]]], equal: bool) -> str:
    if equal and len(found) > 1:
        return f"{', '.join(found)}: the same parameters to the last bit."
    if equal:
        return "Only one backend: nothing to compare it with."
    return "The parameters are not equal to the last bit in all of them."
