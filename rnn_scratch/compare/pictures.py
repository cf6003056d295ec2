"""The pictures of a comparison, drawn from its record."""

import hashlib
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from . import summary
from .plan import Record, name

FORMATS = ("svg", "png")
# By backend, so that one has the same colour on every picture; dashed for a framework's own layer.
COLORS = {"numpy": "C0", "torch": "C1", "tensorflow": "C2", "mxnet": "C3"}
WORDS = {
    "num_hiddens": "hidden units",
    "batch_size": "subsequences in a minibatch",
    "num_steps": "time steps",
    "threads": "threads",
}


def draw(record: Record) -> dict[str, bytes]:
    """The pictures that the record has something for, by file name; each as SVG and as PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    found = {}
    # The same record gives the same file: ids from a salt, no date, letters as outlines.
    with rc_context({"svg.hashsalt": "rnn-scratch", "svg.fonttype": "path", "font.size": 11}):
        for title, picture in PICTURES.items():
            figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
            axes = figure.add_subplot()
            if not picture(axes, record):
                continue
            axes.spines[["top", "right"]].set_visible(False)
            for format in FORMATS:
                image = BytesIO()
                metadata: dict[str, str | None] = {"Description": source(record)}
                metadata |= {"Date": None} if format == "svg" else {"Software": None}
                figure.savefig(image, format=format, metadata=metadata)
                found[f"{title}.{format}"] = image.getvalue()
    return found


def source(record: Record) -> str:
    """What a picture says it was drawn from, so that one that is stale can be told."""
    content = json.dumps(record, sort_keys=True).encode()
    return f"Drawn from the record {hashlib.sha256(content).hexdigest()}"


def speed(axes: Any, record: Record) -> bool:
    """Bars of the training's speed, with the spread, and the limit of each."""
    rows = [row for row in summary.speeds(record) if row.train]
    if not rows or _scales(record):
        return False
    labels = [_label(row, record) for row in rows]
    for y, row in enumerate(rows):
        assert row.train
        assert row.products
        middle, low, high = row.train
        style = {"hatch": "//", "alpha": 0.6} if row.model == "concise" else {}
        axes.barh(y, middle, color=_color(row.backend, record), **style)
        axes.errorbar(middle, y, xerr=[[middle - low], [high - middle]], color="black", capsize=3)
        axes.plot([row.products.median] * 2, [y - 0.4, y + 0.4], color="black", linestyle=":",
                  label="limit: its matrix products alone" if y == 0 else None)  # fmt: skip
    _rows(axes, labels)
    axes.set_xlabel("characters per second of training")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return True


def start_up(axes: Any, record: Record) -> bool:
    """Bars of what passes before training is at speed: the import, then the first minibatch."""
    rows = [row for row in summary.speeds(record) if row.train]
    if not rows or _scales(record):
        return False
    imports = [row.importing.median if row.importing else 0 for row in rows]
    firsts = [row.first.median if row.first else 0 for row in rows]
    axes.barh(range(len(rows)), imports, color="#888888", label="import")
    axes.barh(range(len(rows)), firsts, left=imports, color="#d08770", label="first minibatch")
    _rows(axes, [_label(row, record) for row in rows])
    axes.set_xlabel("seconds before training is at speed")
    return True


def perplexity(axes: Any, record: Record) -> bool:
    """Curves of the perplexity, one for each training."""
    for candidate in record["candidates"]:
        for number, training in enumerate(candidate["trainings"]):
            if curve := training["perplexity"]:
                axes.plot(
                    range(1, len(curve) + 1), curve, **_line(candidate, record),
                    label=name(candidate) if number == 0 else None,
                    marker="." if len(curve) < 3 else "",
                )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    # Within a power of ten the minor ticks are all there are.
    axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish(axes)


def divergence(axes: Any, record: Record) -> bool:
    """Curves of how far the losses in float64 are from those of NumPy, update by update."""
    for candidate in record["candidates"]:
        apart = candidate.get("float64", {}).get("differences", [])
        shown = [(n, value) for n, value in enumerate(apart, 1) if value > 0]
        if shown:  # a logarithm has no place for those that are equal
            style = {**_line(candidate, record), "linewidth": 1}
            axes.plot(*zip(*shown), **style, label=name(candidate))
    axes.set(xlabel="update", ylabel="relative difference of the loss to NumPy's", yscale="log")
    return _finish(axes)


def scaling(axes: Any, record: Record) -> bool:
    """Curves of the cost of a character against what is varied."""
    if not _scales(record):
        return False
    rows = [row for row in summary.speeds(record) if row.train]
    for candidate in record["candidates"]:
        own = [row for row in rows if row.candidate == name(candidate)]
        values = [row.value for row in own]
        middle, low, high = (
            [1e6 / getattr(row.train, part) for row in own] for part in ("median", "high", "low")
        )
        if own:
            style = _line(candidate, record)
            axes.plot(values, middle, marker="o", label=name(candidate), **style)
            axes.fill_between(values, low, high, color=style["color"], alpha=0.2)
    what = record["plan"]["vary"][0]
    axes.set(xlabel=WORDS[what], ylabel="microseconds per character", xscale="log", yscale="log")
    axes.set_xticks(record["plan"]["vary"][1])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    return _finish(axes)


PICTURES: dict[str, Callable[[Any, Record], bool]] = {
    "speed": speed,
    "scaling": scaling,
    "perplexity": perplexity,
    "divergence": divergence,
    "start-up": start_up,
}


def _scales(record: Record) -> bool:
    # Whether there are so many values that a curve says more than bars.
    vary: tuple[str, Sequence[int]] | None = record["plan"]["vary"]
    return vary is not None and len(vary[1]) > 2


def _rows(axes: Any, labels: list[str]) -> None:
    # A row for each, from the top, and room for all of them.
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=5)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    axes.figure.set_size_inches(7, 1.6 + 0.3 * len(labels))


def _finish(axes: Any) -> bool:
    if not axes.lines:
        return False
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return True


def _label(row: summary.Speed, record: Record) -> str:
    vary = record["plan"]["vary"]
    return row.candidate if not vary else f"{row.candidate}, {vary[0]} {row.value}"


def _color(backend: str, record: Record) -> str:
    others = [b for b in record["plan"]["backends"] if b not in COLORS]
    return COLORS[backend] if backend in COLORS else f"C{4 + others.index(backend)}"


def _line(candidate: dict[str, Any], record: Record) -> dict[str, Any]:
    # The later the thinner: of curves that lie on each other, all can be seen.
    later = record["candidates"].index(candidate) / len(record["candidates"])
    return {
        "linewidth": 5 - 4 * later,
        "color": _color(candidate["backend"], record),
        "linestyle": "-" if candidate["model"] == "scratch" else "--",
    }
