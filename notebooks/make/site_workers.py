"""The site's page on several workers: their engines' code, and what is computed from the record.

`tests/tools/engines.py` writes the record. What it does not contain is computed here: the bytes of
an exchange from the shapes of the parameters, and when two workers are faster than one.
"""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from rnn_scratch.compare import pictures
from rnn_scratch.compare.results import Cells
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.runs.setup import Place
from rnn_scratch.settings import Settings, option_of
from rnn_scratch.show import source_code
from rnn_scratch.text import corpus
from rnn_scratch.workers import groups, launch, rendezvous, supervisor

from . import readme, site_chapter, site_code, site_figures, site_prose
from .exchange import (
    Exchange,
    exchanges_of,
    fit,
    gain,
    minibatches_of,
    parameters,
    payoff,
    received,
    received_from_server,
    smallest,
    transferred_in_turn,
)
from .names import enumerate_words, framework
from .site_code import STATIC, Code
from .site_prose import Typeset

SOURCE = Path("notebooks/site/workers.md")
RECORD = "workers.json"
FAULTS = "team.json"  # of `nox -s team -- --output notebooks/records/team.json`
EXCHANGE = f"{STATIC}/figures/exchange.svg"
CELLS = ("rnn", "gru", "lstm")
DTYPES = ("float32", "float64")
NUMBERS = (2, 4)  # of workers, whose bytes are computed
LARGE = 100  # how many times as many parameters as the chapter's model the page looks at
NETWORKS = (1, 10)  # Gbit/s, assumed
TRIALS = {  # by their kind in that record
    "kill": "a process is killed",
    "resume": "the training is resumed after all kills",
    "machines": "two machines: training, a kill, a cut cable",
    "mistake": "a mistake in a command line",
}
GRADIENTS = (0.1, 0.2, 0.9, 0.6)  # of four workers, for one parameter


def render(
    folder: Path, backends: Sequence[str], typeset: Typeset = site_prose.mathml
) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their places; RNNScratchError where a record lacks a part."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        measured, exact = record["workers"], record["workers-exact"]
        names = [name for name in backends if name in measured["engines"]]
        fits = {name: fit(exchanges_of(measured["engines"][name])) for name in names}
        values = {
            "gather": _gather(backends),
            **_times(),
            "equal": _equal(),
            "bytes": readme.markdown(bytes_cells(measured["settings"]["vocabulary"])),
            "costs": readme.markdown(_costs(measured, fits)),
            "exchange": site_figures.figure(
                EXCHANGE,
                "Milliseconds of an exchange against the bytes of a vector, with fitted lines",
                "An exchange and its addition, measured (points), and latency + bytes / bandwidth "
                "(lines), for two workers on one machine.",
            ),
            "gains": readme.markdown(_gains(measured, fits)),
            "verdict": _verdict(measured, fits),
            "large": readme.markdown(_large(measured, fits)),
            **_settings(measured),
            **{name: f"{value:g}" for name, value in zip("abcd", GRADIENTS)},
            "orders": readme.markdown(_orders()),
            "sums": readme.markdown(_sums(measured, names)),
            "digests": "\n\n".join(_digests(training) for training in exact["trainings"]),
            "trials": _trials(folder / FAULTS),
        }
    except (OSError, LookupError) as error:
        raise RNNScratchError(
            f"The record {path} lacks what the page quotes: {error}.\nMake it again: "
            "nox -s records -- workers workers-exact"
        ) from error
    text = site_prose.render(SOURCE.read_text(encoding="utf-8"), backends, typeset)
    text = re.sub(rf"\{{({'|'.join(values)})\}}", lambda match: values[match[1]], text)
    return text, {EXCHANGE: _draw(measured, fits)}


def bytes_cells(vocabulary: int) -> Cells:
    """A table of the bytes of an exchange, with the chapter's number of hidden units."""
    head = ["dtype", "cell", "parameters", *(f"{n} workers" for n in NUMBERS)]
    rows = [[*head, *(f"MXNet, {n} workers" for n in NUMBERS)]]
    for dtype in DTYPES:
        for cell in CELLS:
            count = parameters(Settings.num_hiddens, vocabulary, cell)
            sizes = [
                function(count + 1, workers, dtype)  # with the loss
                for function in (received, received_from_server)
                for workers in NUMBERS
            ]
            rows.append([dtype, f"`{cell}`", f"{count:,}", *(f"{s / 1e6:.1f} MB" for s in sizes)])
    return rows


def _gather(backends: Sequence[str]) -> str:
    codes = {}
    for backend in backends:
        pieces = source_code.find(backend, "gather")[:1]  # without its helpers
        if pieces:
            place = f"{site_chapter.relative(pieces[0].file)}, line {pieces[0].line}"
            codes[backend] = Code(pieces[0].source, place=place)
    return site_code.group(codes, backends)


def _times() -> dict[str, str]:
    return {
        "coordinator": launch.COORDINATOR,
        "loopback": groups.LOOPBACK,
        "wait": f"{rendezvous.WAIT:g}",
        "unreachable": f"{rendezvous.SILENCE:g}",
        "silence": f"{supervisor.SILENCE:g}",
        "stall": f"{supervisor.STALL / 60:g}",
        "grace": f"{supervisor.GRACE:g}",
        "patience": f"{supervisor.PATIENCE:g}",
    }


def _equal() -> str:
    # What all workers must have in common: what the supervisor compares, the settings last.
    job = launch.Job(
        Settings(), corpus.Text("", "", "", ""), Place("numpy", "scratch"), folder=None
    )
    settings = [option_of(name) for name in Settings.__dataclass_fields__]
    names = [name for name in supervisor.terms(job) if name not in settings]
    names = [name.replace("numpy backend", "backend") for name in names]
    words = [f"`{name}`" if name.startswith("--") else f"the {name}" for name in names]
    return enumerate_words([*words, f"every setting, from `{settings[0]}` to `{settings[-1]}`"])


def _settings(measured: Mapping[str, Any]) -> dict[str, str]:
    settings, machine = measured["settings"], measured["machine"]
    engines = [each["engine"] for each in measured["engines"].values()]
    return {
        "model": settings["model"],
        "steps": str(settings["num_steps"]),
        "processor": machine["processor"],
        "cores": str(machine["cores"]),
        "command": measured["command"],
        "load": f"{measured['load']:.1f}",
        "engines": enumerate_words(engines),
        "times": f"{LARGE}",
        "units": str(Settings.num_hiddens),
        "rows": str(Settings.batch_size),
        "networks": enumerate_words([f"{each}" for each in NETWORKS]),
    }


def _costs(measured: Mapping[str, Any], fits: Mapping[str, Exchange]) -> Cells:
    H, B, V = Settings.num_hiddens, Settings.batch_size, measured["settings"]["vocabulary"]
    count = parameters(H, V) + 1
    head = ["milliseconds", "one number", f"{count:,} numbers", "and their addition in rank order"]
    rows = [
        [*head, "the engine's own all-reduce", f"computing {B} rows", f"computing {B // 2} rows"]
    ]
    for name in fits:
        engine = measured["engines"][name]
        exchanges = {each["numbers"]: each for each in engine["exchanges"]}
        large, minibatches = exchanges[count], minibatches_of(engine)
        values = [
            exchanges[1]["gather"]["median"],
            *(large[what]["median"] for what in ("gather", "all_reduce", "own")),
            minibatches[H, B],
            minibatches[H, B // 2],
        ]
        rows.append([framework(name), *map(_short, values)])
    return rows


def _gains(measured: Mapping[str, Any], fits: Mapping[str, Exchange]) -> Cells:
    gains = payoff(measured, fits)
    sizes = sorted({B for _, _, B in gains})
    rows = [["framework", "hidden units", *(f"{B} rows" for B in sizes)]]
    for name, H in dict.fromkeys((name, H) for name, H, _ in gains):
        values = [round(gains[name, H, B], 2) for B in sizes]
        cells = [f"**{each:.2f}**" if each > 1 else f"{each:.2f}" for each in values]
        rows.append([framework(name), str(H), *cells])
    return rows


def _verdict(measured: Mapping[str, Any], fits: Mapping[str, Exchange]) -> str:
    gains = payoff(measured, fits)
    faster = sum(round(each, 2) > 1 for each in gains.values())  # as in the table
    best = max(gains, key=lambda key: gains[key])
    H, B = Settings.num_hiddens, Settings.batch_size
    own = [f"{framework(name)} {gains[name, H, B]:.2f}" for name in fits]
    return (
        f"Two workers gain in {faster} of these {len(gains)} cases, at most "
        f"{gains[best]:.2f} times the speed, {framework(best[0])}'s with {best[1]} hidden units "
        f"and {best[2]} rows. With the chapter's settings, {H} units and {B} rows, it is: "
        f"{', '.join(own)}."
    )


def _large(measured: Mapping[str, Any], fits: Mapping[str, Exchange]) -> Cells:
    V, B = measured["settings"]["vocabulary"], Settings.batch_size
    count = LARGE * parameters(Settings.num_hiddens, V)
    head = ["framework", f"gain with {B} rows", "gains from"]
    rows = [[*head, *(f"from, with {each} Gbit/s between" for each in NETWORKS)]]
    for name, exchange in fits.items():
        minibatches = minibatches_of(measured["engines"][name])
        largest = max(minibatches)  # the most hidden units, and of them the most rows
        per_row = minibatches[largest] / largest[1] * count / parameters(largest[0], V)
        here = exchange.of(4 * count)
        wire = transferred_in_turn(name, count)
        times = [here, *(here + wire * 8e-6 / each for each in NETWORKS)]
        factor = gain(B * per_row, B / 2 * per_row, here)
        rows.append(
            [framework(name), f"{factor:.2f}", *(f"{smallest(per_row, t)} rows" for t in times)]
        )
    return rows


def _orders() -> Cells:
    a, b, c, d = GRADIENTS
    names = "abcd"
    rows = [["sum", "result"]]
    for start in range(len(GRADIENTS)):
        order = [(start + k) % len(GRADIENTS) for k in range(len(GRADIENTS))]
        first, second, third, last = (GRADIENTS[k] for k in order)
        words = "(({} + {}) + {}) + {}".format(*(names[k] for k in order))
        rows.append([f"`{words}`", f"`{((first + second) + third) + last!r}`"])
    rows.append(["`(a + b) + (c + d)`", f"`{(a + b) + (c + d)!r}`"])
    return rows


def _sums(measured: Mapping[str, Any], names: Sequence[str]) -> Cells:
    numbers = [each["workers"] for each in measured["engines"][names[0]]["sums"]]
    rows = [
        [
            "elements that differ",
            *(f"engine's sum, {number} workers" for number in numbers),
            *(f"`all_reduce`, {number} workers" for number in numbers),
        ]
    ]
    for name in names:
        sums = measured["engines"][name]["sums"]
        cells = [f"{each[what]:,} of {each['elements']:,}" for what in SUMS for each in sums]
        rows.append([framework(name), *cells])
    return rows


SUMS = ("own", "all_reduce")


def _digests(training: Mapping[str, Any]) -> str:
    # A sentence and a table of a run's digests in exact mode.
    runs, settings = training["runs"], training["settings"]
    cells = {
        (run["backend"], run["workers"]): run["digests"][-1]["digest"]
        if run["outcome"] == "trained"
        else run["outcome"]
        for run in runs
    }
    numbers = sorted({workers for _, workers in cells})
    rows = [["", *(f"{n} worker{'s' if n > 1 else ''}" for n in numbers)]]
    for name in dict.fromkeys(backend for backend, _ in cells):
        rows.append([framework(name), *(f"`{cells[name, n]}`" for n in numbers)])
    last = runs[0]["digests"][-1]
    different = len(set(cells.values()))
    verdict = (
        f"all {len(cells)} training runs end with the same parameters, to the last bit"
        if different == 1
        else f"the {len(cells)} training runs end with {different} different digests"
    )
    return (
        f"After {last['epoch']} epochs with {settings['num_hiddens']} hidden units, "
        f"{last['updates']:,} updates, {verdict}; the perplexity is {last['perplexity']:.4f} "
        f"(`{training['command']}`):\n\n{readme.markdown(rows)}"
    )


def _trials(path: Path) -> str:
    # What happened to training runs of which a worker was killed; nothing where it was not tried.
    if not path.exists():
        return ""
    trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
    rows = [["what was tried", "", "trials", "failures", "seconds, median", "longest"]]
    for kind, backend in dict.fromkeys((each["kind"], each["backend"]) for each in trials):
        some = [each for each in trials if (each["kind"], each["backend"]) == (kind, backend)]
        seconds = [each["seconds"] for each in some if each["seconds"] is not None]
        times = [f"{f(seconds):.1f}" if seconds else "" for f in (statistics.median, max)]
        failures = sum(each["problem"] is not None for each in some)
        rows.append([TRIALS[kind], framework(backend), str(len(some)), str(failures), *times])
    return (
        "`nox -s team` kills processes of training runs in exact mode at random moments, resumes "
        "the runs, and compares the parameters with those of a run that nothing has disturbed. "
        "The seconds are those until all processes had ended:\n\n" + readme.markdown(rows)
    )


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _draw(measured: Mapping[str, Any], fits: Mapping[str, Exchange]) -> bytes:
    from matplotlib.figure import Figure

    with site_figures.ink():
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name, exchange in fits.items():
            points = exchanges_of(measured["engines"][name])
            sizes = np.geomspace(points[0][0], points[-1][0], 100)
            color = pictures.COLORS[name]
            axes.plot(*zip(*points), "o", markersize=4, color=color)
            axes.plot(sizes, [exchange.of(s) for s in sizes], color=color, label=framework(name))
        axes.set(xlabel="bytes of a vector", ylabel="milliseconds", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        image = BytesIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
    return site_figures.svg(image.getvalue())
