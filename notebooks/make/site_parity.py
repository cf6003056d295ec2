"""The page on numerical parity, generated from records."""

from pathlib import Path

import msgspec
import numpy as np

from rnn_scratch.check.exact_mode import measure_growth
from rnn_scratch.compare import pictures
from rnn_scratch.compare.record import read
from rnn_scratch.exact import FINE_GRID, GRID, STATE_GRID
from rnn_scratch.runs import run_folder
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

from . import figures, prose, readme
from .prose import framework
from .site_comparison import CURVES

SCALES = (0.5, 1, 2, 4, 5.7)  # σ√H of the initial weights, for the table of growing differences
FLOAT64 = f"{figures.FOLDER}/float64.svg"
Histories = dict[str, list[run_folder.Epoch]]  # histories, keyed by backend


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page and its pictures, keyed by path."""
    values = readme.exact(folder)
    exact = values["exact"]
    backends = list(dict.fromkeys(model["backend"] for model in exact["models"]))
    float64 = {name: run_folder.read_history(folder / "float64" / name) for name in backends}
    differences = _differences(float64)
    curves = read(readme.COMPARISONS / "curves")
    size = msgspec.convert(exact["settings"], Settings)
    values |= {
        "backends": backends,
        "updates": 100 * ((size.max_tokens - 1) // size.batch_size // size.num_steps),
        "largest": [f"{framework(name)} {max(ratios):.0e}" for name, ratios in differences.items()],
        "float64": FLOAT64,
        "perplexity": CURVES,
        "epochs": curves.settings.num_epochs,
        "perplexities": [
            f"{framework(candidate.backend)} {candidate.epochs[-1].perplexity:.3f}"
            for candidate in curves.supported
        ],
        "grid": _power(GRID),
        "state_grid": _power(STATE_GRID),
        "fine_grid": _power(FINE_GRID),
        "growth": _growth(),
        "ends": list(zip(*(model["digests"] for model in exact["models"]))),
    }
    images: dict[str, bytes] = {}
    with figures.chart(images, FLOAT64) as axes:
        for name, ratios in differences.items():
            points = [(epoch, value) for epoch, value in enumerate(ratios, 1) if value > 0]
            axes.plot(*zip(*points), color=pictures.COLORS[name], label=framework(name))
        axes.set(xlabel="epoch", ylabel="relative difference from NumPy", yscale="log")
    return prose.page("parity.md", values), images


def _growth(num_hiddens: int = 128) -> prose.Cells:
    """Return a table of the growth of a difference, by cell and size of the weights."""
    text, rows = books.load(books.BUILT_IN), [["$\\sigma\\sqrt H$", *map(str, SCALES)]]
    for cell in ("rnn", "gru", "lstm"):
        rows.append([f"`{cell}`"])
        for scale in SCALES:
            sigma = scale / num_hiddens**0.5
            settings = Settings(num_hiddens=num_hiddens, cell=cell, sigma=sigma, dtype="float64")
            factor = measure_growth(prepare_run(settings, Runtime("numpy"), text))
            digit, exponent = f"{factor:.0e}".split("e")
            rows[-1].append(f"{digit} · 10{_superscript(int(exponent))}")
    return rows


def _power(grid: float) -> str:
    """Format a power of two, such as 2⁻¹⁶."""
    return f"2{_superscript(round(np.log2(grid)))}"


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _differences(histories: Histories) -> dict[str, list[float]]:
    """Map each other backend to the relative difference from NumPy's loss in each epoch."""
    losses = {name: np.array([row.loss for row in rows]) for name, rows in histories.items()}
    numpy = losses.pop("numpy")
    return {name: (np.abs(loss - numpy) / numpy).tolist() for name, loss in losses.items()}
