"""The curve of a run: perplexity against epochs, as a picture."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

from ..errors import RNNScratchError, shown
from .run_folder import Epoch

INK = "#767676"  # of figures: a contrast of 4.5 to white, and of about 4 to the usual dark pages
INKS = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
GROUNDS = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
# Matplotlib's settings for figures that suit a light page and a dark one.
STYLE: dict[Any, Any] = {
    **dict.fromkeys((*INKS, "grid.color"), INK),
    **dict.fromkeys(GROUNDS, "none"),
    "legend.frameon": False,
    "text.parse_math": False,  # a record's names are no formulas
    "agg.path.chunksize": 5000,  # points; a whole line of many takes much memory
}
HIGHEST = 1e200  # perplexity: with a margin, the axis of a larger one would be too long for floats


def draw(axes: Any, histories: Mapping[str, Sequence[Epoch]]) -> None:
    """Draw perplexity against epochs: a line per name, and a dashed one for held-out text.

    Epochs whose perplexity is above HIGHEST are omitted.
    """
    from matplotlib.ticker import LogFormatter

    for number, (name, history) in enumerate(histories.items()):
        trained = [(row.epoch, row.perplexity) for row in history]
        held_out = [(row.epoch, row.valid_perplexity) for row in history]
        marker = "." if len(history) < 3 else ""
        lines = ((trained, name, "-"), (held_out, f"{name}, held out", "--"))
        for points, label, style in lines:
            known = [point for point in points if (point[1] or HIGHEST) < HIGHEST]
            if known:
                axes.plot(*zip(*known), style, color=f"C{number}", marker=marker, label=label)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)


@cache
def check_matplotlib(*formats: str) -> None:
    """Raise RNNScratchError unless Matplotlib can write these formats, before training starts."""
    with _explained():
        from matplotlib.figure import Figure

        for format in formats:  # an empty one, which takes no time
            Figure(figsize=(1, 1)).savefig(BytesIO(), format=format)


def picture(histories: Mapping[str, Sequence[Epoch]], format: str = "png") -> bytes:
    """Return a picture of it, PNG or SVG; raise RNNScratchError if Matplotlib cannot draw it."""
    with _explained():
        # Not pyplot, which would look for a window system and keep every figure in memory.
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context(STYLE):
            figure = Figure(figsize=(6, 3.6), dpi=150, layout="constrained")
            draw(figure.add_subplot(), histories)
            image = BytesIO()
            figure.savefig(image, format=format)
        return image.getvalue()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # such as one of its variables in the environment, or of its fonts
        raise RNNScratchError(
            f"Matplotlib cannot draw the figures: {shown(str(error), 300)}.\nCorrect its settings, "
            "such as MPLBACKEND or SOURCE_DATE_EPOCH in the environment, or remove them."
        ) from error
