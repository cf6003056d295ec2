"""Make the page on several workers from its template and the record.

`measure engines` writes the record. This module computes the bytes of an exchange from the shapes
of the parameters, and when two workers are faster than one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import UndefinedError

from rnn_scratch import registry
from rnn_scratch.compare import pictures
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import sessions
from rnn_scratch.settings import Settings, option_name
from rnn_scratch.text import books
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.workers import mpi, supervisor

from . import exchange, figures, prose, site_code
from .exchange import Exchange
from .prose import framework

RECORD = "workers.json"
EXCHANGE = f"{figures.FOLDER}/exchange.svg"
LARGE = 100  # parameter ratio of the page's large model to the chapter's model
NETWORKS = (1, 10)  # Gbit/s, assumed
H, B = Settings().num_hiddens, Settings().batch_size


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page, and its plots by path; RNNScratchError if the record lacks a part."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        measured, exact = record["workers"], record["workers-exact"]
        engines = measured["engines"]
        vocabulary = measured["settings"]["vocabulary"]
        fits = {name: exchange.fit(exchange.points(engine)) for name, engine in engines.items()}
        values = {
            "all_gather": site_code.of(registry.BUILTIN_BACKENDS, "all_gather"),
            "mpi": mpi,
            "supervisor": supervisor,
            "equal": _equal(),
            "measured": measured,
            "units": H,
            "rows": B,
            "exchange": exchange,
            "vocabulary": vocabulary,
            "costs": {name: _costs(each, vocabulary) for name, each in engines.items()},
            "picture": EXCHANGE,
            **_gains(measured, fits),
            "times": LARGE,
            "networks": NETWORKS,
            "large": _large(measured, fits),
            "engines": engines,
            "trainings": [_digests(training) for training in exact["trainings"]],
        }
        page = prose.page("workers.md", values)
    except (OSError, LookupError, UndefinedError) as error:
        raise RNNScratchError(
            f"The record {path} lacks what the page quotes: {error}.\nMake it again: "
            "nox -s records -- workers workers-exact"
        ) from error
    images: dict[str, bytes] = {}
    with figures.chart(images, EXCHANGE) as axes:
        for name, line in fits.items():
            points = exchange.points(engines[name])
            sizes = np.geomspace(points[0][0], points[-1][0], 100)
            color = pictures.COLORS[name]
            axes.plot(*zip(*points), "o", markersize=4, color=color)
            axes.plot(sizes, [line.of(s) for s in sizes], color=color, label=framework(name))
        axes.set(xlabel="bytes of a vector", ylabel="milliseconds", xscale="log", yscale="log")
    return page, images


def _equal() -> list[str]:
    # The versions, options and settings that the workers compare, the settings last.
    text, runtime = books.Text("", "", "", ""), Runtime("numpy", "scratch")
    job = sessions.Work(settings=Settings(), text=text, runtime=runtime, folder=None)
    settings = [option_name(name) for name in Settings.__struct_fields__]
    names = [name for name in supervisor.required_equal(job) if name not in settings]
    names = [name.replace("numpy backend", "backend") for name in names]
    words = [f"`{name}`" if name.startswith("--") else f"the {name}" for name in names]
    return [*words, f"every setting, from `{settings[0]}` to `{settings[-1]}`"]


def _costs(engine: Mapping[str, Any], vocabulary: int) -> list[str]:
    exchanges = {each["numbers"]: each for each in engine["exchanges"]}
    large, minibatches = (
        exchanges[exchange.parameters(H, vocabulary) + 1],
        exchange.minibatches(engine),
    )
    values = [
        exchanges[1]["gather"]["median"],
        *(large[what]["median"] for what in ("gather", "all_reduce", "own")),
        minibatches[H, B],
        minibatches[H, B // 2],
    ]
    return [f"{each:.3g}" if each < 1000 else f"{each:,.0f}" for each in values]


def _gains(measured: Mapping[str, Any], fits: Mapping[str, Exchange]) -> dict[str, Any]:
    gains = exchange.payoff(measured, fits)
    sizes = sorted({rows for _, _, rows in gains})
    name, units, rows = best = max(gains, key=lambda key: gains[key])
    return {
        "batch_sizes": sizes,
        "gains": {
            (name, units): [f"{gains[name, units, rows]:.2f}" for rows in sizes]
            for name, units in dict.fromkeys(key[:2] for key in gains)
        },
        "faster": sum(round(each, 2) > 1 for each in gains.values()),  # round like the table
        "cases": len(gains),
        "best": {"gain": gains[best], "backend": name, "units": units, "rows": rows},
        "chapter": {name: gains[name, H, B] for name in fits},
    }


def _large(
    measured: Mapping[str, Any], fits: Mapping[str, Exchange]
) -> list[tuple[str, float, list[int]]]:
    # Return rows for a larger model: the gain, and the smallest gainful batch per network.
    V = measured["settings"]["vocabulary"]
    count = LARGE * exchange.parameters(H, V)
    rows = []
    for name, line in fits.items():
        minibatches = exchange.minibatches(measured["engines"][name])
        largest = max(minibatches)  # the most hidden units, and of them the most rows
        per_row = minibatches[largest] / largest[1] * count / exchange.parameters(largest[0], V)
        here = line.of(4 * count)
        wire = exchange.received(count, 2, "float32")  # both directions at once
        times = [here, *(here + wire * 8e-6 / each for each in NETWORKS)]
        factor = exchange.gain(B * per_row, B / 2 * per_row, here)
        rows.append((name, factor, [exchange.smallest(per_row, each) for each in times]))
    return rows


def _digests(training: Mapping[str, Any]) -> dict[str, Any]:
    # Return the digests of models in exact mode, by backend, for each number of workers.
    digests = {
        (model["backend"], model["workers"]): model["digests"][-1]["digest"]
        if model["outcome"] == "trained"
        else model["outcome"]
        for model in training["models"]
    }
    workers = sorted({number for _, number in digests})
    names = dict.fromkeys(name for name, _ in digests)
    return {
        "settings": training["settings"],
        "command": training["command"],
        "last": training["models"][0]["digests"][-1],
        "number": len(digests),
        "different": len(set(digests.values())),
        "workers": workers,
        "digests": {name: [digests[name, number] for number in workers] for name in names},
    }
