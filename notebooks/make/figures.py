"""The pictures of the site: drawn so that they suit a light page and a dark one."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from rnn_scratch.compare.pictures import PICTURE_STYLE


@contextmanager
def chart(pictures: dict[str, bytes], place: str) -> Iterator[Any]:
    """Yield axes to draw on, and then put the picture into `pictures` under its place."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**PICTURE_STYLE, "text.parse_math": True}):  # its labels are written here
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        yield axes
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        image = BytesIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
    pictures[place] = image.getvalue()
