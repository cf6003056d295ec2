"""The site's page on the equality of the numbers, made from records."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rnn_scratch.check.certificate import Result
from rnn_scratch.compare import pictures
from rnn_scratch.exact import GRID
from rnn_scratch.runs import curve
from rnn_scratch.runs import folder as run_folder

from . import figures, prose, readme
from .prose import framework
from .site_code import STATIC

FLOAT64 = f"{STATIC}/figures/float64.svg"
PERPLEXITY = f"{STATIC}/figures/perplexity.svg"
Histories = dict[str, list[run_folder.Epoch]]  # by backend


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their places in the site."""
    values = readme.exact(folder)
    exact: Result = values["exact"]
    backends = list(dict.fromkeys(run.backend for run in exact.runs))
    float64 = {path.name: history for path, _, history in run_folder.listing(folder / "float64")}
    differences = _differences({name: float64[name] for name in backends if name in float64})
    runs = list(map(_run, sorted(path.parent for path in folder.glob(f"*/{run_folder.RECORD}"))))
    if not runs:
        raise FileNotFoundError(f"there are no records of runs in {folder}: nox -s records")
    own = {name: folder / f"{name}-scratch-sequential" for name in backends}
    float32 = {name: run_folder.history(each) for name, each in own.items() if each.exists()}
    size = exact.settings
    exponent = str(round(np.log2(GRID)))
    values |= {
        "backends": backends,
        "trained": sorted({run["model"] for run in runs if run["folder"] in own.values()}),
        "updates": 100 * ((size.max_tokens - 1) // size.batch_size // size.num_steps),
        "largest": [f"{framework(name)} {max(each):.0e}" for name, each in differences.items()],
        "float64": FLOAT64,
        "perplexity": PERPLEXITY,
        "perplexities": [
            f"{framework(name)} {history[-1].perplexity:.3f}" for name, history in float32.items()
        ],
        "grid": "2" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")),
        "ends": _ends(exact),
        "runs": runs,
    }
    images = {PERPLEXITY: _draw_perplexity(float32)}
    with figures.chart(images, FLOAT64) as axes:
        for name, each in differences.items():
            points = [(epoch, value) for epoch, value in enumerate(each, 1) if value > 0]
            axes.plot(*zip(*points), color=pictures.COLORS[name], label=framework(name))
        axes.set(xlabel="epoch", ylabel="relative difference from NumPy", yscale="log")
    return prose.page("parity.md", values), images


def _differences(histories: Histories) -> dict[str, list[float]]:
    # The relative difference of each loss from NumPy's.
    losses = {name: np.array([row.loss for row in rows]) for name, rows in histories.items()}
    numpy = losses.pop("numpy")
    return {name: (np.abs(loss - numpy) / numpy).tolist() for name, loss in losses.items()}


def _run(folder: Path) -> dict[str, Any]:
    # What the page says of a run; what it has generated, where it is one of the plain ones.
    record, last = run_folder.read(folder), run_folder.history(folder)[-1]
    settings, session = record.settings, record.sessions[-1]
    backend, model = session.place.backend, session.place.model
    plain = model != "concise" and (settings.sampling, settings.cell) == ("sequential", "rnn")
    return {
        "folder": folder,
        "backend": backend,
        "model": model,
        "cell": settings.cell,
        "sampling": settings.sampling,
        "epochs": last.epoch,
        "perplexity": last.perplexity,
        "versions": f"{backend} {session.environment[backend]}",
        "sample": session.predictions[0].strip() if plain else "",
    }


def _ends(exact: Result) -> list[dict[str, Any]]:
    # After some epochs: the perplexity, and the digests of the models that were trained.
    rows = []
    for row in zip(*(run.digests for run in exact.runs)):
        first = row[0]
        perplexity = "" if first.perplexity is None else f"{first.perplexity:.4f}"
        digests = sorted({each.digest for each in row})
        rows.append(
            {
                "epoch": first.epoch,
                "perplexity": perplexity,
                "digests": digests,
                "models": len(row),
            }
        )
    return rows


def _draw_perplexity(histories: Histories) -> bytes:
    named = {framework(name): history for name, history in histories.items()}
    with tempfile.TemporaryDirectory() as folder, figures.ink():
        path = Path(folder, "perplexity.svg")
        curve.perplexity_curve(path, named)
        return figures.svg(path.read_bytes())
