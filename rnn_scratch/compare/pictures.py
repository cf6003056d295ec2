"""The pictures of a comparison, drawn from its record."""

from collections.abc import Callable, Sequence
from io import BytesIO
from math import isnan, nan
from typing import Any

from ..registry import OURS
from ..runs import curve
from ..runs.curve import HIGHEST, INK
from . import summary
from .record import VARIED, Candidate, Comparison

FORMATS = ("svg", "png")
# The same record gives the same file: ids from a salt, letters as outlines.
PICTURE_STYLE: dict[Any, Any] = {
    **curve.STYLE,
    "svg.hashsalt": "rnn-scratch",
    "svg.fonttype": "path",
    "font.size": 11,
}
# A color for each backend, the same on all pictures; a shade and a style for each variant.
COLORS = {backend: f"C{number}" for number, backend in enumerate(OURS)}
SHADES = {"scratch": ("white", 0), "fast": ("white", 0.45), "concise": ("black", 0.35)}
HATCHES = {"concise": "//"}
LINES = {"scratch": "-", "fast": "--", "concise": ":"}


def draw(
    record: Comparison,
    titles: Sequence[str] = ("speed", "scaling", "perplexity"),
    formats: Sequence[str] = FORMATS,
) -> dict[str, bytes]:
    """Return the pictures that the record has data for, by file name."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    images = {}
    with rc_context(PICTURE_STYLE):
        for title in titles:
            figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
            axes = figure.add_subplot()
            if not PICTURES[title](axes, record):
                continue
            axes.spines[["top", "right"]].set_visible(False)
            for format in formats:
                image = BytesIO()
                metadata = {"Date" if format == "svg" else "Software": None}
                figure.savefig(image, format=format, metadata=metadata)
                images[f"{title}.{format}"] = image.getvalue()
    return images


def speed(axes: Any, record: Comparison) -> bool:
    """Draw bars of the training's speed, with the spread and the limit; not where a curve is."""
    rows = summary.timed(record)
    if _has_curve(record) or not rows:
        return False
    for y, (candidate, _, figures) in enumerate(rows):
        median, low, high = figures["train"]
        color, hatch = _color(candidate, record), HATCHES.get(candidate.model)
        axes.barh(y, median, color=color, hatch=hatch, edgecolor=INK, linewidth=0)
        axes.errorbar(median, y, xerr=[[median - low], [high - median]], color=INK, capsize=3)
        limit = figures["products"].median
        axes.plot([limit, limit], [y - 0.4, y + 0.4], color=INK, linestyle=":")
    labels = [record.plan.label(row.candidate.name, row.value) for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=5)
    words = ["limit: its matrix products alone"]
    axes.legend(axes.lines[-1:], words, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.figure.set_size_inches(7, 1.9 + 0.3 * len(rows))
    axes.set_xlabel("characters per second of training")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return True


def perplexity(axes: Any, record: Comparison) -> bool:
    """Draw curves of the perplexity, one for each training run, where it is below HIGHEST."""
    for candidate in record.candidates:
        curves = [[epoch.perplexity for epoch in trial.epochs] for trial in candidate.trials]
        # One line, which NaN interrupts between two runs: thousands of lines take minutes.
        epochs = [x for curve in curves for x in (*range(1, len(curve) + 1), nan)]
        values = [y if y and y < HIGHEST else nan for curve in curves for y in (*curve, nan)]
        if not all(map(isnan, values)):
            marker = "." if max(map(len, curves)) < 3 else ""
            style = _line(candidate, record)
            axes.plot(epochs, values, label=candidate.name, marker=marker, **style)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    # Within a power of ten there are minor ticks only.
    axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish(axes)


def scaling(axes: Any, record: Comparison) -> bool:
    """Draw curves of the time for a character against the varied setting."""
    if not _has_curve(record):
        return False
    rows = summary.timed(record)
    for candidate in record.candidates:
        points = [(row.value, *row.figures["train"]) for row in rows if row.candidate is candidate]
        if points:
            values, *speeds = zip(*points)
            median, low, high = ([1e6 / speed for speed in part] for part in speeds)
            style = _line(candidate, record)
            axes.plot(values, median, marker="o", label=candidate.name, **style)
            axes.fill_between(values, low, high, color=style["color"], alpha=0.2)
    axes.set(xlabel=VARIED[record.plan.vary or ""], ylabel="microseconds per character")
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(record.plan.values)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    return _finish(axes)


PICTURES: dict[str, Callable[[Any, Comparison], bool]] = {
    "speed": speed,
    "scaling": scaling,
    "perplexity": perplexity,
}


def _has_curve(record: Comparison) -> bool:
    # Whether there are enough values for a curve to say more than bars.
    return len(record.plan.values) > 2


def _finish(axes: Any) -> bool:
    if not axes.lines:
        return False
    axes.grid(alpha=0.3)
    # Samples of the lines that are long enough to show their styles.
    size = "medium" if len(axes.get_legend_handles_labels()[1]) <= 6 else "small"
    axes.legend(frameon=False, handlelength=3, fontsize=size)
    return True


def _color(candidate: Candidate, record: Comparison) -> Any:
    # Backends of other packages, and those in environments of their own, get the next colors.
    from matplotlib.colors import to_rgb

    places = dict.fromkeys(candidate.place for candidate in record.candidates)
    others = [place for place in places if place not in COLORS]
    color = COLORS.get(candidate.place) or f"C{len(COLORS) + others.index(candidate.place)}"
    other, share = SHADES[candidate.model]
    return [(1 - share) * a + share * b for a, b in zip(to_rgb(color), to_rgb(other))]


def _line(candidate: Candidate, record: Comparison) -> dict[str, Any]:
    # Later curves are thinner, so that all can be seen where they coincide.
    position = record.candidates.index(candidate) / len(record.candidates)
    color = _color(candidate, record)
    return {"linewidth": 5 - 4 * position, "color": color, "linestyle": LINES[candidate.model]}
