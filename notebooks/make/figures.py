"""The figures of the pages, each for a light and for a dark ground."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from rnn_scratch.compare.pictures import PICTURE_STYLE
from rnn_scratch.runs.curve import INK

FOLDER = "figures"  # the folder of the figures, relative to the pages
DARK_INK = b"#a5a5a5"  # replaces the gray of letters and lines


@contextmanager
def chart(pictures: dict[str, bytes], place: str) -> Iterator[Any]:
    """Yield axes to draw on, and then put the picture into `pictures` under its place."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**PICTURE_STYLE, "text.parse_math": True}):  # the labels have formulas
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        yield axes
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        image = BytesIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
    pictures[place] = image.getvalue()


def both(pictures: dict[str, bytes]) -> dict[str, bytes]:
    """Return SVG pictures with copies for a dark ground, whose names end with "-dark"."""
    dark = {
        place.replace(".svg", "-dark.svg"): picture.replace(INK.encode(), DARK_INK)
        for place, picture in pictures.items()
    }
    return {**pictures, **dark}
