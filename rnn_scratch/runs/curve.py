"""The curve of a run: perplexity against epochs, as a picture."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from ..system import files
from .folder import Epoch

INK = "#767676"  # of figures: a contrast of 4.5 to white, and of about 4 to the usual dark pages


def draw(axes: Any, histories: Mapping[str, list[Epoch]]) -> None:
    """Draw perplexity against epochs: a line per name, and a dashed one for held-out text.

    Epochs whose perplexity is too large for a float are omitted.
    """
    for number, (name, history) in enumerate(histories.items()):
        color = f"C{number}"
        trained = [(row.epoch, row.perplexity) for row in history if row.perplexity is not None]
        held_out = [
            (row.epoch, row.valid_perplexity) for row in history if row.valid_perplexity is not None
        ]
        marker = "." if len(history) < 3 else ""
        if trained:
            axes.plot(*zip(*trained), color=color, marker=marker, label=name)
        if held_out:
            label = f"{name}, held out"
            axes.plot(*zip(*held_out), color=color, marker=marker, linestyle="--", label=label)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)


def perplexity_curve(path: Path, histories: Mapping[str, list[Epoch]]) -> None:
    """A picture of it; the suffix of `path` determines the format, PNG or SVG."""
    # Not pyplot, which would look for a window system and keep every figure in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    draw(axes, histories)
    image = BytesIO()
    figure.savefig(image, format=path.suffix.lstrip("."))
    files.replace(path, image.getvalue())
