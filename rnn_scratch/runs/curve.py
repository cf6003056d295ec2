"""Plots of perplexity by epoch."""

import threading
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from ..training.events import Epoch

INK = "#767676"  # contrast ratio: 4.5 on white, about 4 on typical dark pages
MAX_VALUE = 1e200  # upper limit for plotted perplexities; larger values would overflow axis limits
_COLOR_KEYS = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_BACKGROUND_KEYS = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
# Matplotlib settings for figures on light and dark pages.
STYLE: dict[Any, Any] = {
    **dict.fromkeys((*_COLOR_KEYS, "grid.color"), INK),
    **dict.fromkeys(_BACKGROUND_KEYS, "none"),
    "legend.frameon": False,
    "text.parse_math": False,
}
_STYLE_LOCK = threading.Lock()  # `rc_context` changes settings that all threads share


def draw(axes: Any, histories: Mapping[str, Sequence[Epoch]]) -> None:
    """Plot perplexity by epoch: a solid line for each name, and a dashed line for held-out text.

    Perplexities of MAX_VALUE or more are omitted.
    """
    from matplotlib.ticker import LogFormatter

    for index, (name, history) in enumerate(histories.items()):
        training = [(row.epoch, row.perplexity) for row in history]
        held_out = [(row.epoch, row.valid_perplexity) for row in history]
        marker = "." if len(history) < 3 else ""
        for points, label, dashes in ((training, name, "-"), (held_out, f"{name}, held out", "--")):
            pairs = [(epoch, value) for epoch, value in points if value and value < MAX_VALUE]
            if pairs:
                axes.plot(*zip(*pairs), dashes, color=f"C{index}", marker=marker, label=label)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)


def picture(histories: Mapping[str, Sequence[Epoch]], title: str = "") -> bytes:
    """Return the curves as a PNG image."""
    # Avoid pyplot, which would look for a window system and keep every figure in memory.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with _STYLE_LOCK, rc_context(STYLE):
        figure, image = Figure(figsize=(6, 3.6), dpi=150, layout="constrained"), BytesIO()
        draw(figure.add_subplot(title=title), histories)
        figure.savefig(image)
    return image.getvalue()
