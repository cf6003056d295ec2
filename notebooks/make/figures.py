"""Versions of the pages' figures for light and dark backgrounds."""

from rnn_scratch.runs.curve import INK

FOLDER = "figures"  # folder of the figures, relative to the folder of the pages
DARK_INK = b"#a5a5a5"  # replaces INK, the gray of text and lines, in dark versions


def with_dark_copies(pictures: dict[str, bytes]) -> dict[str, bytes]:
    """Return SVG pictures and copies for dark backgrounds, whose names end in "-dark.svg"."""
    dark = {
        place.replace(".svg", "-dark.svg"): picture.replace(INK.encode(), DARK_INK)
        for place, picture in pictures.items()
    }
    return {**pictures, **dark}
