"""A run as a small card for notebooks: its curve as a picture, its numbers and its text.

The card takes its colors from the page, light or dark. Nothing in it depends on a clock, unless
the training is under way: the same history makes the same card. The curve is drawn here, without a
library, because one that grows is drawn every second.
"""

import html
import math
from collections.abc import Sequence
from pathlib import Path

from ..settings import Settings
from . import progress
from .folder import Epoch
from .place import Place

WIDTH, HEIGHT = 380, 220  # of the picture
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 24, 38  # its margins, for what is written beside the axes
COLOR = "#3987c9"  # stands out from white and from black
POINTS = 400  # of a line, more of which could not be seen


def title(settings: Settings, place: Place) -> str:
    """What is trained, and where."""
    return (
        f"{place.backend} ({place.model}) on {place.device}: "
        f"{settings.cell}, {settings.num_hiddens} hidden units"
    )


def summary(history: Sequence[Epoch]) -> str:
    """How many epochs there are, and the last one's perplexities."""
    last = history[-1]
    return f"{last.epoch} epoch{'s' if last.epoch > 1 else ''}, {progress.perplexities(last)}"


def card(
    heading: str,
    words: Sequence[str],
    texts: Sequence[str],
    folder: Path,
    history: Sequence[Epoch],
    last: int,
    progress: float | None = None,
) -> str:
    """The card in HTML; its curve has room up to epoch `last`.

    `words` are lines about the training, `texts` are by the model. `progress` is the share of the
    training that is done, while it is under way.
    """
    bar = ""
    if progress is not None:
        bar = (
            '<div role="progressbar" aria-label="training" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{100 * progress:.0f}" style="height: 0.5em; margin: 0.3em 0; '
            f'background: rgba(128, 128, 128, 0.3)"><div style="height: 100%; width: '
            f'{100 * progress:.1f}%; background: {COLOR}"></div></div>'
        )
    status = "".join(
        f'<div style="white-space: pre-wrap">{html.escape(line)}</div>' for line in words
    )
    samples = "".join(
        '<pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.5em 0">'
        f"{html.escape(text)}</pre>"
        for text in texts
    )
    return (
        '<div style="display: flex; flex-wrap: wrap; gap: 0.5em 1.5em; max-width: 56em; padding: '
        '0.7em; border: 1px solid rgba(128, 128, 128, 0.5); border-radius: 6px">'
        f'<div style="flex: 0 1 {WIDTH}px">{svg(history, last)}</div>'
        '<div style="flex: 1 1 18em">'
        f"<div><b>{html.escape(heading)}</b></div>{status}"
        f"{bar}{samples}<div>run folder: <code>{html.escape(str(folder))}</code></div></div></div>"
    )


def svg(history: Sequence[Epoch], last: int) -> str:
    """Perplexity against epochs, on a scale of logarithms; dashed for the held-out text.

    Epochs whose perplexity is too large for a float are omitted.
    """
    rows = history[:: math.ceil(len(history) / POINTS) or 1]
    if rows and rows[-1] is not history[-1]:
        rows = [*rows, history[-1]]
    curves = {
        "training": [(row.epoch, row.perplexity) for row in rows if row.perplexity is not None],
        "held out": [
            (row.epoch, row.valid_perplexity) for row in rows if row.valid_perplexity is not None
        ],
    }
    values = [perplexity for points in curves.values() for _, perplexity in points] or [1.0, 10.0]
    low, high, marks = _scale(min(values), max(values))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(epoch: float) -> float:
        return round(LEFT + (right - LEFT) * epoch / last, 1)

    def y(perplexity: float) -> float:
        return round(bottom - (bottom - TOP) * math.log(perplexity / low) / math.log(high / low), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        'style="max-width: 100%; height: auto" fill="currentColor" font-size="11" role="img" '
        'aria-label="perplexity against epochs">'
    ]
    for mark in marks:
        parts.append(_line(LEFT, y(mark), right, y(mark)))
        words = f"{mark:g}" if mark < 10_000 else f"{mark:.0e}"  # there is no room for more
        parts.append(_text(LEFT - 6, y(mark) + 4, words, "end"))
    for epoch in range(0, last + 1, _step(last)):
        parts.append(_line(x(epoch), TOP, x(epoch), bottom))
        parts.append(_text(x(epoch), bottom + 16, f"{epoch}", "middle"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 6, "epoch", "middle"))
    parts.append(_text(0, 14, "perplexity", "start"))
    dashes = {"training": "", "held out": ' stroke-dasharray="5 4"'}
    drawn = f'fill="none" stroke="{COLOR}" stroke-width="2"'
    for number, (name, points) in enumerate(curves.items()):
        if points:
            path = " ".join(f"{x(epoch)},{y(perplexity)}" for epoch, perplexity in points)
            parts.append(f'<polyline points="{path}" {drawn}{dashes[name]}/>')
            epoch, perplexity = points[-1]
            parts.append(f'<circle cx="{x(epoch)}" cy="{y(perplexity)}" r="3" fill="{COLOR}"/>')
            start = LEFT + 40 + 100 * number
            sample = f'points="{start},10 {start + 26},10"'
            parts.append(f"<polyline {sample} {drawn}{dashes[name]}/>")
            parts.append(_text(start + 32, 14, name, "start"))
    return "".join([*parts, "</svg>"])


def _scale(lowest: float, highest: float) -> tuple[float, float, list[float]]:
    # The ends of an axis that contains these values, and what is marked on it: 1, 2, 5, 10, ...
    exponents = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 2)
    marks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 2, 5)]
    low = max(mark for mark in marks if mark <= lowest)
    high = min(mark for mark in marks if mark > highest)
    inside = [mark for mark in marks if low <= mark <= high]
    if len(inside) > 7:
        powers = [float(f"1e{exponent}") for exponent in exponents]
        inside = [power for power in powers if low <= power <= high]
        inside = inside[:: math.ceil(len(inside) / 7)]
    return low, high, inside


def _step(last: int) -> int:
    # Between the marked epochs: 1, 2, 5, 10, ..., so that there are at most five steps.
    power = 10 ** len(str(last))
    steps = [digit * power // 1000 for digit in (1, 2, 5, 10, 20, 50, 100, 200, 500)]
    return min(step for step in steps if step and 5 * step >= last)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"'
    return f'<line {ends} stroke="currentColor" stroke-opacity="0.2"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text}</text>'
