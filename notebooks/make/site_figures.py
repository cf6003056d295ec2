"""The pictures of the site: drawn so that they suit a light page and a dark one."""

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rnn_scratch.runs.curve import INK  # of the notebooks' figures


@contextmanager
def ink() -> Iterator[None]:
    """Within it, Matplotlib draws in mid-grey on nothing, and the same data makes the same file."""
    from matplotlib import rc_context

    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = {key: INK for key in (*inks, "grid.color")}
    settings |= {"savefig.transparent": True, "svg.hashsalt": "rnn-scratch", "svg.fonttype": "path"}
    with rc_context(settings):
        yield


def svg(drawn: bytes) -> bytes:
    """A picture in which what was drawn in black is in that grey too, and without a date."""
    return re.sub(rb"<dc:date>.*?</dc:date>", b"", drawn).replace(b"#000000", INK.encode())


def figure(place: str, alternative: str, caption: str = "") -> str:
    """A picture in a page, with its caption."""
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{place}" alt="{html.escape(alternative)}">{words}</figure>'
