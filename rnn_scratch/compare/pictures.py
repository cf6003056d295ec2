"""Figures of a comparison: plots of its record in SVG format."""

from collections.abc import Callable, Sequence
from io import BytesIO
from math import isnan, nan
from typing import Any

from ..contract import VARIANTS
from ..registry import BUILTIN_BACKENDS
from ..runs import curve
from ..runs.curve import INK, MAX_VALUE
from . import summary
from .record import VARIED, Candidate, Comparison

# Make files reproducible: derive IDs from a salt, and draw text as outlines.
PICTURE_STYLE: dict[Any, Any] = {
    **curve.STYLE,
    "svg.hashsalt": "rnn-scratch",
    "svg.fonttype": "path",
    "font.size": 11,
}
COLORS = {backend: f"C{index}" for index, backend in enumerate(BUILTIN_BACKENDS)}
LINES = {"scratch": "-", "fast": "--", "concise": ":"}
BARS = {"scratch": "#9aa5b1", "fast": "#2f7fc1", "concise": "#d0863b"}
LABELS = {"scratch": "scratch", "fast": "fast", "concise": "built-in layer"}


def draw(record: Comparison, titles: Sequence[str] = ("speed", "perplexity")) -> dict[str, bytes]:
    """Return SVG figures by title; omit each figure for which the record has no data."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    images = {}
    with rc_context(PICTURE_STYLE):
        for title in titles:
            figure = Figure(figsize=(7, 4), layout="constrained")
            if PICTURES[title](figure, record):
                for axes in figure.axes:
                    axes.spines[["top", "right"]].set_visible(False)
                image = BytesIO()
                figure.savefig(image, format="svg", metadata={"Date": None})
                images[title] = image.getvalue()
    return images


def speed(figure: Any, record: Comparison) -> bool:
    """Plot training speeds, one panel per value of the varied setting; return whether any exist."""
    rows = summary.timed_rows(record)
    if not rows:
        return False
    backends = list(dict.fromkeys(row.candidate.backend for row in rows))
    models = [model for model in VARIANTS if model in {row.candidate.model for row in rows}]
    values = list(dict.fromkeys(row.value for row in rows))
    has_same_axis = record.plan.vary == "threads"
    panels = figure.subplots(1, len(values), sharex=has_same_axis, sharey=True, squeeze=False)[0]
    height = 0.8 / len(models)
    for axes, value in zip(panels, values):
        for row in rows:
            if row.value == value:
                median, low, high = row.figures["train"]
                index = models.index(row.candidate.model)
                y = backends.index(row.candidate.backend) + (index - (len(models) - 1) / 2) * height
                axes.barh(y, median, 0.9 * height, color=BARS[row.candidate.model])
                axes.errorbar(median, y, xerr=[[median - low], [high - median]], color=INK)
        axes.set_title("" if value is None else f"{VARIED[record.plan.vary or '']}: {value}")
        axes.set_xlabel("characters per second of training")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(backends)), backends)
    panels[0].invert_yaxis()
    bars = [panels[0].barh(0, 0, color=BARS[model], label=LABELS[model]) for model in models]
    figure.legend(handles=bars, loc="outside upper center", ncols=len(models))
    figure.set_size_inches(4.5 * max(len(panels), 1.5), 1.8 + 0.25 * len(backends) * len(models))
    return True


def perplexity(figure: Any, record: Comparison) -> bool:
    """Plot each training run's perplexities below MAX_VALUE by epoch; return whether any exist."""
    axes = figure.add_subplot()
    for candidate in record.candidates:
        curves = [[epoch.perplexity for epoch in trial.epochs] for trial in candidate.trials]
        # Plot a single line with gaps (NaN) between runs: thousands of lines would take minutes.
        epochs = [x for curve in curves for x in (*range(1, len(curve) + 1), nan)]
        values = [y if y and y < MAX_VALUE else nan for curve in curves for y in (*curve, nan)]
        if not all(map(isnan, values)):
            marker = "." if max(map(len, curves)) < 3 else ""
            style = _line(candidate, record)
            axes.plot(epochs, values, label=candidate.name, marker=marker, **style)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    # An axis that spans less than a power of ten may have only minor ticks.
    axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.lines:
        axes.grid(alpha=0.3)
        axes.legend(handlelength=3, fontsize="small")  # long handles show the line styles
    return bool(axes.lines)


PICTURES: dict[str, Callable[[Any, Comparison], bool]] = {"speed": speed, "perplexity": perplexity}


def _line(candidate: Candidate, record: Comparison) -> dict[str, Any]:
    # Draw later curves thinner, so that coinciding curves remain visible. Assign further colors to
    # backends from other packages.
    position = record.candidates.index(candidate) / len(record.candidates)
    backends = dict.fromkeys([*COLORS, *(c.backend for c in record.candidates)])
    color = f"C{list(backends).index(candidate.backend)}"
    return {"linewidth": 5 - 4 * position, "color": color, "linestyle": LINES[candidate.model]}
