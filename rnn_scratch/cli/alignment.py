"""Lines of several codes in rows, so that what corresponds stands beside each other."""

from collections.abc import Sequence

from . import source_code
from .source_code import Piece


def beside(codes: Sequence[list[Piece]]) -> list[tuple[str | None, ...]]:
    """Rows of corresponding lines of a function, and its helpers, in several codes.

    Functions of one name stand beside each other, with an empty row between two of them. None is
    where a code has no such line.
    """
    codes_in_order = [source_code.ordered(pieces) for pieces in codes]
    names = align_all([[piece.name for piece in pieces] for pieces in codes_in_order])
    following = [iter(pieces) for pieces in codes_in_order]
    rows: list[tuple[str | None, ...]] = []
    for row in names:
        texts = [
            [] if name is None else next(pieces).source.splitlines()
            for name, pieces in zip(row, following)
        ]
        rows += [(None,) * len(codes)] if rows else []
        rows += align_all(texts)
    return rows


def align_all(texts: Sequence[list[str]]) -> list[tuple[str | None, ...]]:
    """Rows of the corresponding lines of several texts; None has no partner.

    Each text is aligned with those before it, where the first line of a row represents the row.
    """
    rows: list[tuple[str | None, ...]] = [(line,) for line in texts[0]]
    for number, text in enumerate(texts[1:], 1):
        first_lines = [next(line for line in row if line is not None) for row in rows]
        known = iter(rows)
        rows = [
            ((None,) * number if a is None else next(known)) + (b,)
            for a, b in source_code.align(first_lines, text)
        ]
    return rows
