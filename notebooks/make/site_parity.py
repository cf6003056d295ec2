"""The site's page on how equal the numbers are, made from records."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from rnn_scratch.compare import pictures
from rnn_scratch.compare.words import Cells
from rnn_scratch.exact import GRID
from rnn_scratch.runs import curve
from rnn_scratch.runs import folder as run_folder

from . import records
from .site_prose import framework

Pictures = dict[str, bytes]  # by where they lie in the site


def parity(folder: Path) -> tuple[str, Pictures]:
    """The page on how equal the numbers are, and its pictures."""
    exact = json.loads((folder / "exact.json").read_text(encoding="utf-8"))
    odds = json.loads((folder / "odds.json").read_text(encoding="utf-8"))
    doubles = {path.name: history for path, _, history in run_folder.listing(folder / "float64")}
    apart = _apart({name: doubles[name] for name in exact["backends"]})
    singles = {
        name: run_folder.history(folder / f"{name}-scratch-sequential")
        for name in exact["backends"]
        if (folder / f"{name}-scratch-sequential").exists()
    }
    ends = ", ".join(
        f"{framework(name)} {history[-1].perplexity:.3f}" for name, history in singles.items()
    )
    worst = {name: max(values) for name, values in apart.items()}
    text = f"""# The same numbers

Four frameworks are given the same starting values and the same minibatches. If their backends
compute the same function, they must find the same numbers, and this page shows how far they do.
All of it is read from records of trainings with the chapter's settings, 512 hidden units on
*The Time Machine*; `nox -s records` makes them again.

## Piece by piece

`rnn-scratch check` gives each piece of a backend what the NumPy backend would give it, and compares
what comes out, in float64 and in float32, with one-hot inputs and with an embedding, with tanh and
with ReLU. In float64 a result may differ by 1e-14, which is what rounding does. The first row that
is off names the piece that is wrong, and the tests hold all four backends to it.

## A hundred epochs in float64

Frameworks add up the terms of a matrix product in different orders, so that the last digits differ.
In a hundred epochs, {_updates(exact)} updates, that is all that differs. The largest relative
differences of an epoch's loss to NumPy's are {_list({framework(n): f"{w:.0e}" for n, w in worst.items()})}.

![Relative difference of the loss to that of NumPy, epoch by epoch, in float64](figures/float64.svg)

## Five hundred epochs in float32

In ordinary training rounding is coarser, and where the loss is steep an update magnifies what the
one before left. The curves part for a while, as those of any chaotic system do, and come together
at the same perplexity: {ends}.

![Perplexity of the four backends over 500 epochs of ordinary training](figures/perplexity.svg)

## To the last bit

In exact mode each step, learning rate times clipped gradient in float64, is rounded to a multiple of
{_power()} before it is taken. What rounding did in the frameworks falls below that, and nothing is
left that could grow: after every epoch that was looked at, the parameters have **one digest in all
of {_list({framework(name): "" for name in exact["backends"]})}**. A digest is equal only where every
bit of every parameter is.

{records.markdown(_digests(exact))}

`rnn-scratch check --exact numpy torch` does the same on your machine, with 50 epochs.

## And the odds that it fails

Two values that lie close together round to different multiples when the middle between two multiples
happens to lie between them. How often that is to be expected was measured, by computing every
gradient of a whole training in NumPy and in PyTorch: it is the sum of the distances, divided by the
grid. A coarser grid makes it rarer. With this one the training does not suffer; a coarser one still
would leave no step to take where the learning rate is small.

{records.markdown(_odds(odds))}

{records.exact(folder)}
"""  # noqa: E501  (a sentence's line is as long as what is put into it)
    pictures = {"figures/float64.svg": _float64(apart), "figures/perplexity.svg": _curves(singles)}
    return text, pictures


def _apart(doubles: dict[str, list[run_folder.Epoch]]) -> dict[str, list[float]]:
    # How far each loss is from NumPy's, relatively.
    numpy = np.array([row.loss for row in doubles["numpy"]])
    losses = {name: np.array([row.loss for row in rows]) for name, rows in doubles.items()}
    return {
        name: (np.abs(loss - numpy) / numpy).tolist()
        for name, loss in losses.items()
        if name != "numpy"
    }


def _updates(exact: dict[str, Any]) -> str:
    size = exact["settings"]
    each = (size["max_tokens"] - 1) // size["batch_size"] // size["num_steps"]
    return f"{100 * each:,}"


def _digests(exact: dict[str, Any]) -> Cells:
    head = ["epochs", "perplexity", "digest", "equal in"]
    rows = []
    for row in zip(*exact["backends"].values()):
        first = row[0]
        digests = sorted({each["digest"] for each in row})
        perplexity = "" if first["perplexity"] is None else f"{first['perplexity']:.4f}"
        equal = f"all {len(row)}" if len(digests) == 1 else "not all"
        rows.append([str(first["epoch"]), perplexity, f"`{'` `'.join(digests)}`", equal])
    return [head, *rows]


def _odds(odds: dict[str, Any]) -> Cells:
    partings = odds["expected partings in one training, NumPy and PyTorch"]
    perplexity = odds["perplexity after the last epoch"]
    rows = [
        [name.replace("**-", "⁻").translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))[1:],
         f"1 in {1 / each:,.0f}", f"{perplexity[name]:.4f}" if name in perplexity else ""]
        for name, each in partings.items()
    ]  # fmt: skip
    rows = [[f"2{grid}", *rest] for grid, *rest in rows]
    rows.append(["none", "", f"{perplexity['no grid']:.4f}"])
    return [["grid", "odds that two backends part", "perplexity after 500 epochs"], *rows]


def _power() -> str:
    bits = str(round(-np.log2(GRID))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"2⁻{bits}"


def _list(found: dict[str, str]) -> str:
    *others, last = [f"{name} {value}".strip() for name, value in found.items()]
    return f"{', '.join(others)} and {last}" if others else last


def _float64(apart: dict[str, list[float]]) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # The same record gives the same file, as comparison_figures has it.
    with rc_context({"svg.hashsalt": "rnn-scratch", "svg.fonttype": "path"}):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name, values in apart.items():
            shown = [(epoch, value) for epoch, value in enumerate(values, 1) if value > 0]
            color = pictures.COLORS[name]
            axes.plot(*zip(*shown), color=color, label=framework(name))
        axes.set(xlabel="epoch", ylabel="relative difference to NumPy", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        image = BytesIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
    return image.getvalue()


def _curves(singles: dict[str, list[run_folder.Epoch]]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "perplexity.svg")
        curve.perplexity_curve(path, singles)
        return path.read_bytes()
