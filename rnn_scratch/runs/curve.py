"""The curve of a run: a plot of the perplexity against the epochs."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from ..errors import RNNScratchError, format_value
from ..training.events import Epoch

INK = "#767676"  # a contrast of 4.5 to white, and of about 4 to the usual dark pages
HIGHEST = 1e200  # perplexity; floats could not represent the axis of a larger perplexity
_INKS = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_GROUNDS = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
# Matplotlib's settings of figures that suit light and dark pages.
STYLE: dict[Any, Any] = {
    **dict.fromkeys((*_INKS, "grid.color"), INK),
    **dict.fromkeys(_GROUNDS, "none"),
    "legend.frameon": False,
    "text.parse_math": False,
}


def draw(axes: Any, histories: Mapping[str, Sequence[Epoch]]) -> None:
    """Draw perplexity against epochs: a line per name, and a dashed line for held-out text.

    Epochs whose perplexity is above HIGHEST are omitted.
    """
    from matplotlib.ticker import LogFormatter

    for number, (name, history) in enumerate(histories.items()):
        trained = [(row.epoch, row.perplexity) for row in history]
        held_out = [(row.epoch, row.valid_perplexity) for row in history]
        marker = "." if len(history) < 3 else ""
        for points, label, dashes in ((trained, name, "-"), (held_out, f"{name}, held out", "--")):
            drawn = [(epoch, value) for epoch, value in points if value and value < HIGHEST]
            if drawn:
                axes.plot(*zip(*drawn), dashes, color=f"C{number}", marker=marker, label=label)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)


def picture(histories: Mapping[str, Sequence[Epoch]], title: str = "") -> bytes:
    """Return a picture of the curves; raise RNNScratchError if Matplotlib cannot draw it."""
    try:
        # Not pyplot, which would look for a window system and keep every figure in memory.
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context(STYLE):
            figure, image = Figure(figsize=(6, 3.6), dpi=150, layout="constrained"), BytesIO()
            draw(figure.add_subplot(title=title), histories)
            figure.savefig(image)
        return image.getvalue()
    except Exception as error:  # missing fonts or wrong environment variables
        raise RNNScratchError(
            f"Matplotlib cannot draw the figures: {format_value(str(error), 300)}.",
            "Correct its settings, such as MPLBACKEND in the environment.",
        ) from error
