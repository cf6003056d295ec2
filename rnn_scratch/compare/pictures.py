"""The pictures of a comparison, drawn from its record."""

import hashlib
from collections.abc import Callable, Collection
from io import BytesIO
from typing import Any

from ..registry import OURS
from ..runs import curve
from ..runs.curve import INK
from ..system import records
from . import metrics
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


def draw(record: Comparison, names: Collection[str] | None = None) -> dict[str, bytes]:
    """The pictures that the record has data for, by file name; each as SVG and as PNG.

    With `names` only these, which takes less time.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    images, description = {}, source(record)
    with rc_context(PICTURE_STYLE):
        for title, picture in PICTURES.items():
            files = {f"{title}.{format}": format for format in FORMATS}
            files = {file: files[file] for file in files if names is None or file in names}
            if not files:
                continue
            figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
            axes = figure.add_subplot()
            if not picture(axes, record):
                continue
            axes.spines[["top", "right"]].set_visible(False)
            for file, format in files.items():
                image = BytesIO()
                metadata: dict[str, str | None] = {"Description": description}
                metadata |= {"Date": None} if format == "svg" else {"Software": None}
                figure.savefig(image, format=format, metadata=metadata)
                images[file] = image.getvalue()
    return images


def source(record: Comparison) -> str:
    """What a picture contains about the record it was drawn from, to detect one that is stale."""
    return f"Drawn from the record {hashlib.sha256(records.encoded(record)).hexdigest()}"


def speed(axes: Any, record: Comparison) -> bool:
    """Bars of the training's speed, with the spread and the limit of each."""
    rows = [] if _has_curve(record) else metrics.speeds(record)
    for y, row in enumerate(rows):
        train, color = row.train, _color(row.candidate, record)
        hatch = HATCHES.get(row.candidate.model)
        axes.barh(y, train.median, color=color, hatch=hatch, edgecolor=INK, linewidth=0)
        spread = [[train.median - train.low], [train.high - train.median]]
        axes.errorbar(train.median, y, xerr=spread, color=INK, capsize=3)
        axes.plot(
            [row.products.median] * 2,
            [y - 0.4, y + 0.4],
            color=INK,
            linestyle=":",
            label="limit: its matrix products alone" if y == 0 else None,
        )
    labels = [record.plan.labelled(row.candidate.name, row.value) for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=5)
    if rows:
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.figure.set_size_inches(7, 1.9 + 0.3 * len(rows))
    axes.set_xlabel("characters per second of training")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return bool(rows)


def perplexity(axes: Any, record: Comparison) -> bool:
    """Curves of the perplexity, one for each trial."""
    for candidate in record.candidates:
        for number, trial in enumerate(candidate.trials):
            if curve := [epoch.perplexity for epoch in trial.epochs]:
                axes.plot(
                    range(1, len(curve) + 1),
                    curve,
                    label=candidate.name if number == 0 else None,
                    marker="." if len(curve) < 3 else "",
                    **_line(candidate, record),
                )
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    # Within a power of ten there are minor ticks only.
    axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish(axes)


def divergence(axes: Any, record: Comparison) -> bool:
    """Curves of the relative difference of the losses in float64 to NumPy's, by update."""
    for candidate in record.candidates:
        # On a logarithmic axis there is no place for losses that are equal.
        points = [(n, value) for n, value in enumerate(candidate.differences, 1) if value > 0]
        if points:
            style = {**_line(candidate, record), "linewidth": 1}
            axes.plot(*zip(*points), label=candidate.name, **style)
    axes.set(xlabel="update", ylabel="relative difference of the loss to NumPy's", yscale="log")
    return _finish(axes)


def scaling(axes: Any, record: Comparison) -> bool:
    """Curves of the time for a character against what is varied."""
    if not _has_curve(record):
        return False
    rows, vary = metrics.speeds(record), record.plan.vary
    for candidate in record.candidates:
        own = [row for row in rows if row.candidate is candidate]
        values = [row.value for row in own]
        median, low, high = (
            [1e6 / getattr(row.train, item) for row in own] for item in ("median", "high", "low")
        )
        if own:
            style = _line(candidate, record)
            axes.plot(values, median, marker="o", label=candidate.name, **style)
            axes.fill_between(values, low, high, color=style["color"], alpha=0.2)
    axes.set(xlabel=VARIED[vary or ""], ylabel="microseconds per character")
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
    "divergence": divergence,
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

    places = dict.fromkeys(each.place for each in record.candidates)
    others = [place for place in places if place not in COLORS]
    color = COLORS.get(candidate.place) or f"C{len(COLORS) + others.index(candidate.place)}"
    other, share = SHADES[candidate.model]
    return [(1 - share) * a + share * b for a, b in zip(to_rgb(color), to_rgb(other))]


def _line(candidate: Candidate, record: Comparison) -> dict[str, Any]:
    # Later curves are thinner, so that all can be seen where they coincide.
    position = record.candidates.index(candidate) / len(record.candidates)
    return {
        "linewidth": 5 - 4 * position,
        "color": _color(candidate, record),
        "linestyle": LINES[candidate.model],
    }
