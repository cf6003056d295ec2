"""The page on training with several workers, made from the record of `measure engines`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_scratch import registry
from rnn_scratch.compare import pictures
from rnn_scratch.contract import Options
from rnn_scratch.settings import Settings
from rnn_scratch.workers import mpi, supervisor

from . import figures, prose, site_code
from .prose import framework

RECORD = "workers.json"
EXCHANGE = f"{figures.FOLDER}/exchange.svg"
H, B = Settings().num_hiddens, Settings().batch_size


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page and a dict that maps the plot's path to the plot."""
    record = json.loads((folder / RECORD).read_bytes())
    measured = record["workers"]
    engines = measured["engines"]
    values = {
        "all_gather": site_code.find_code(registry.BUILTIN_BACKENDS, "all_gather"),
        "mpi": mpi,
        "supervisor": supervisor,
        "measured": measured,
        "engines": engines,
        "units": H,
        "rows": B,
        "parameters": parameters,
        "vocabulary": measured["settings"]["vocabulary"],
        "costs": {name: _costs(measured, name) for name in engines},
        "picture": EXCHANGE,
        **_speedups(measured),
        "trainings": [_digests(training) for training in record["workers-exact"]["trainings"]],
    }
    images: dict[str, bytes] = {}
    with figures.chart(images, EXCHANGE) as axes:
        for name, engine in engines.items():
            sizes, milliseconds = zip(*exchange_times(engine).items())
            style = {"color": pictures.COLORS[name], "label": framework(name)}
            axes.plot([4 * size for size in sizes], milliseconds, "o-", markersize=4, **style)
        axes.set(xlabel="bytes of a vector", ylabel="milliseconds", xscale="log", yscale="log")
    return prose.page("workers.md", values), images


def parameters(num_hiddens: int, vocabulary: int, cell: str = "rnn") -> int:
    """Return the number of parameters of a model."""
    shapes = Options(vocabulary, num_hiddens, cell).shapes().values()
    return sum(math.prod(shape) for shape in shapes)


def exchange_times(engine: Mapping[str, Any]) -> dict[int, float]:
    """Return the times in milliseconds to exchange and add vectors, keyed by vector length."""
    return {row["numbers"]: row["all_reduce"]["median"] for row in engine["exchanges"]}


def minibatch_times(engine: Mapping[str, Any]) -> dict[tuple[int, int], float]:
    """Return the times in milliseconds per minibatch, keyed by (hidden units, rows)."""
    return {(row["num_hiddens"], row["batch_size"]): row["median"] for row in engine["minibatches"]}


def speedups(measured: Mapping[str, Any]) -> dict[tuple[str, int, int], float]:
    """Return the speedups of two workers over one, keyed by (backend, hidden units, rows).

    Each worker computes half of the rows, and then the workers exchange their gradients.
    """
    result = {}
    for name, engine in measured["engines"].items():
        exchanges, minibatches = exchange_times(engine), minibatch_times(engine)
        for (units, rows), milliseconds in minibatches.items():
            if (units, rows // 2) in minibatches:
                size = parameters(units, measured["settings"]["vocabulary"]) + 1
                both = minibatches[units, rows // 2] + exchanges[size]
                result[name, units, rows] = milliseconds / both
    return result


def _speedups(measured: Mapping[str, Any]) -> dict[str, Any]:
    gains = speedups(measured)
    name, units, rows = best = max(gains, key=lambda key: gains[key])
    sizes = sorted({rows for _, _, rows in gains})
    return {
        "batch_sizes": sizes,
        "gains": {
            (name, units): [f"{gains[name, units, rows]:.2f}" for rows in sizes]
            for name, units in dict.fromkeys(key[:2] for key in gains)
        },
        "faster": sum(round(gain, 2) > 1 for gain in gains.values()),  # rounded as in the table
        "cases": len(gains),
        "best": {"gain": gains[best], "backend": name, "units": units, "rows": rows},
        "chapter": {name: gains[name, H, B] for name in measured["engines"]},
    }


def _costs(measured: Mapping[str, Any], name: str) -> list[str]:
    # Return a row of the cost table: milliseconds per exchange and per minibatch.
    engine, vocabulary = measured["engines"][name], measured["settings"]["vocabulary"]
    exchanges = {row["numbers"]: row for row in engine["exchanges"]}
    gradients, minibatches = exchanges[parameters(H, vocabulary) + 1], minibatch_times(engine)
    values = [
        exchanges[1]["gather"]["median"],
        *(gradients[kind]["median"] for kind in ("gather", "all_reduce", "own")),
        *(minibatches[H, rows] for rows in (B, B // 2)),
    ]
    return [f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in values]


def _digests(training: Mapping[str, Any]) -> dict[str, Any]:
    # Summarize runs in exact mode, with the final digest for each backend and worker count.
    models = training["models"]
    digests: dict[str, list[str]] = {}
    for model in models:
        digests.setdefault(model["backend"], []).append(model["digests"][-1]["digest"])
    return {
        "settings": training["settings"],
        "command": training["command"],
        "last": models[0]["digests"][-1],
        "number": len(models),
        "different": len({digest for row in digests.values() for digest in row}),
        "workers": sorted({model["workers"] for model in models}),
        "digests": digests,
    }
