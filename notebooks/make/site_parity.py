"""The site's page on the equality of the numbers, made from records."""

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from rnn_scratch.compare import pictures
from rnn_scratch.compare.results import Cells
from rnn_scratch.exact import GRID
from rnn_scratch.runs import curve
from rnn_scratch.runs import folder as run_folder

from . import readme, site_figures
from .names import enumerate_words, framework
from .site_code import STATIC

FLOAT64 = f"{STATIC}/figures/float64.svg"
PERPLEXITY = f"{STATIC}/figures/perplexity.svg"
Histories = dict[str, list[run_folder.Epoch]]  # by backend


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their places in the site."""
    exact = readme.read_exact(folder / "exact.json")
    backends = list(dict.fromkeys(run["backend"] for run in exact["runs"]))
    float64 = {path.name: history for path, _, history in run_folder.listing(folder / "float64")}
    differences = _differences({name: float64[name] for name in backends if name in float64})
    float32, models = {}, set()
    for name in backends:
        run = folder / f"{name}-scratch-sequential"
        if run.exists():
            float32[name] = run_folder.history(run)
            models.add(run_folder.read(run)["sessions"][-1]["model"])
    perplexities = [
        f"{framework(name)} {history[-1].perplexity:.3f}" for name, history in float32.items()
    ]
    largest = [f"{framework(name)} {max(each):.0e}" for name, each in differences.items()]
    text = f"""# The same numbers

The frameworks start with the same parameters and train on the same minibatches. If their backends
compute the same function, they must compute the same numbers, and this page shows how closely they
do. All of it comes from records of training runs with the chapter's settings, 512 hidden units on
*The Time Machine*, with the model `{"`, `".join(sorted(models))}`; `nox -s records` makes them again.

## Function by function

`rnn-scratch check` passes the same inputs to each function of a backend and to that of the NumPy
backend, and compares the results, in float64 and in float32, with one-hot inputs and with an
embedding, with tanh and with ReLU, for all three variants of the model. In float64 the results may
differ by 1e-14, which is the effect of rounding. The first row that fails names the function that is
wrong. The tests apply the same check to every backend.

## A hundred epochs in float64

Frameworks add the terms of a matrix product in different orders, so that the last digits differ.
In a hundred epochs, {_updates(exact)} updates, nothing else differs. The largest relative
differences of an epoch's loss from NumPy's are {enumerate_words(largest)}.

{site_figures.figure(FLOAT64, "Relative difference of the loss from that of NumPy, epoch by epoch, in float64")}

## Five hundred epochs in float32

In ordinary training rounding is coarser, and where the loss is steep an update magnifies the
differences that are there. The curves diverge for a while, as those of any chaotic system do, and
reach the same perplexity in the end: {", ".join(perplexities)}.

{site_figures.figure(PERPLEXITY, "Perplexity of the backends over 500 epochs of ordinary training")}

## To the last bit

In exact mode each step, learning rate times clipped gradient in float64, is rounded to a multiple of
{_power()} before it is applied. The differences that rounding makes between frameworks are smaller
than that and vanish, so that nothing is left that could grow: after every epoch in the table, the
parameters have **one digest in all of {enumerate_words([framework(n) for n in backends])}**,
whichever variant computes them: {readme.candidates(exact)}.
Digests are equal only where every bit of every parameter is.

{readme.markdown(_digests(exact))}

`rnn-scratch check --exact numpy torch` does the same on your machine, with 50 epochs.

## How close it was

Two values that are close together round to different multiples when the midpoint of two multiples
lies between them, so exact mode could fail. How close it came is known after every run.
The NumPy backend's steps show how near one came to such a midpoint, among all parameters in all
updates. The steps of all models, compared in several epochs from first to last, show by how much
frameworks differ. `check --exact` ends with both figures and with their ratio, a safety factor. If
models diverge, it trains two of them once more to name the first update and element that differ.

A coarser grid would keep more distance. With this one training is as good as without; with a
much coarser one, steps would be rounded to zero where the learning rate is small.

{readme.exact(folder)}

## All training runs

The chapter's settings: 10,000 characters, minibatches of 32 subsequences of 35 steps, 512 hidden units,
learning rate 1, gradients clipped at 1. Random sampling begins each minibatch without a state, so its
perplexity stays higher. What those of `scratch` with the cell `rnn` write in the end is below the table.

{readme.table(folder)}
"""  # noqa: E501 - lines are as long as the values in them
    return text, {
        FLOAT64: _draw_float64(differences),
        PERPLEXITY: _draw_perplexity(float32),
    }


def _differences(histories: Histories) -> dict[str, list[float]]:
    # The relative difference of each loss from NumPy's.
    losses = {name: np.array([row.loss for row in rows]) for name, rows in histories.items()}
    numpy = losses.pop("numpy")
    return {name: (np.abs(loss - numpy) / numpy).tolist() for name, loss in losses.items()}


def _updates(exact: dict[str, Any]) -> str:
    size = exact["settings"]
    each = (size["max_tokens"] - 1) // size["batch_size"] // size["num_steps"]
    return f"{100 * each:,}"


def _digests(exact: dict[str, Any]) -> Cells:
    head = ["epochs", "perplexity", "digest", "equal in"]
    rows = []
    for row in zip(*(run["digests"] for run in exact["runs"])):
        first = row[0]
        digests = sorted({each["digest"] for each in row})
        perplexity = "" if first["perplexity"] is None else f"{first['perplexity']:.4f}"
        equal = f"all {len(row)}" if len(digests) == 1 else "not all"
        rows.append([str(first["epoch"]), perplexity, f"`{'` `'.join(digests)}`", equal])
    return [head, *rows]


def _power() -> str:
    exponent = str(round(np.log2(GRID)))
    return "2" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _draw_float64(differences: dict[str, list[float]]) -> bytes:
    from matplotlib.figure import Figure

    with site_figures.ink():
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name, values in differences.items():
            points = [(epoch, value) for epoch, value in enumerate(values, 1) if value > 0]
            axes.plot(*zip(*points), color=pictures.COLORS[name], label=framework(name))
        axes.set(xlabel="epoch", ylabel="relative difference from NumPy", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        image = BytesIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
    return site_figures.svg(image.getvalue())


def _draw_perplexity(histories: Histories) -> bytes:
    named = {framework(name): history for name, history in histories.items()}
    with tempfile.TemporaryDirectory() as folder, site_figures.ink():
        path = Path(folder, "perplexity.svg")
        curve.perplexity_curve(path, named)
        return site_figures.svg(path.read_bytes())
