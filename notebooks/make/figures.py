"""Figures for the pages, in colors that suit both light and dark backgrounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from rnn_scratch.compare.pictures import PICTURE_STYLE

FOLDER = "figures"  # figures folder, relative to the pages folder


@contextmanager
def chart(pictures: dict[str, bytes], place: str) -> Iterator[Any]:
    """Yield axes to draw on; on exit, store the figure as SVG in `pictures[place]`."""
    with charts(pictures, place, (1, 1), (6, 3.6)) as grid:
        yield grid[0, 0]
        grid[0, 0].legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))


@contextmanager
def charts(
    pictures: dict[str, bytes], place: str, shape: tuple[int, int], size: tuple[float, float]
) -> Iterator[Any]:
    """Yield a grid of axes with this shape (rows, columns), like `chart`; `size` is in inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**PICTURE_STYLE, "text.parse_math": True}):
        figure, image = Figure(figsize=size, layout="constrained"), BytesIO()
        grid = figure.subplots(*shape, squeeze=False)
        yield grid
        for axes in grid.flat:
            axes.grid(alpha=0.3)
        figure.savefig(image, format="svg", metadata={"Date": None})
    pictures[place] = image.getvalue()
