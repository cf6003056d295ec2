"""SVG figures for a comparison."""

from io import BytesIO
from typing import Any

from ..registry import BUILTIN_BACKENDS
from ..runs import curve
from . import tables
from .record import Comparison

# Use a fixed salt for IDs to make files reproducible, and keep text selectable.
PICTURE_STYLE: dict[Any, Any] = {
    **curve.STYLE,
    "svg.hashsalt": "rnn-scratch",
    "svg.fonttype": "none",
    "font.size": 11,
}
COLORS = {backend: f"C{index}" for index, backend in enumerate(BUILTIN_BACKENDS)}
BARS = {"scratch": "#9aa5b1", "fast": "#2f7fc1", "concise": "#d0863b"}


def draw(record: Comparison) -> dict[str, bytes]:
    """Return SVG figures by title, omitting figures that would be empty."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    images = {}
    with rc_context(PICTURE_STYLE):
        for title, plot in {"speed": speed, "perplexity": perplexity}.items():
            figure = Figure(figsize=(7, 4), layout="constrained")
            axes = figure.add_subplot()
            plot(axes, record)
            if axes.has_data():
                axes.spines[["top", "right"]].set_visible(False)
                image = BytesIO()
                figure.savefig(image, format="svg", metadata={"Date": None})
                images[title] = image.getvalue()
    return images


def speed(axes: Any, record: Comparison) -> None:
    """Plot training speeds with confidence intervals."""
    candidates = [candidate for candidate in record.supported if candidate.training_speeds]
    for y, candidate in enumerate(candidates):
        median, low, high = tables.estimate(candidate.training_speeds)
        axes.barh(y, median, color=BARS[candidate.variant])
        if low:
            axes.errorbar(median, y, xerr=[[median - low], [high - median]], color=curve.INK)
    axes.set_yticks(range(len(candidates)), [record.label(candidate) for candidate in candidates])
    axes.invert_yaxis()
    axes.set_xlabel("characters per second of training")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.figure.set_size_inches(7, 1 + 0.25 * len(candidates))


def perplexity(axes: Any, record: Comparison) -> None:
    """Plot each candidate's perplexity by epoch.

    Threads do not affect the curves, so only those for the first number of threads are plotted.
    """
    values = record.plan.varied_values[: 1 if record.plan.sweep == "threads" else None]
    candidates = [candidate for candidate in record.candidates if candidate.value in values]
    curves: dict[str, Any] = {record.label(candidate): candidate.epochs for candidate in candidates}
    curve.draw(axes, curves)
    for index, line in enumerate(axes.lines):
        # Draw later curves thinner so that coinciding curves remain visible.
        line.set_linewidth(5 - 4 * index / len(axes.lines))
    if axes.lines:
        axes.legend(fontsize="small")
