"""Lines of several codes in rows, so that what corresponds stands beside each other."""

import difflib
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from . import source_code
from .source_code import Definition


def beside(codes: Sequence[list[Definition]]) -> list[tuple[str | None, ...]]:
    """Rows of corresponding lines of a function, and its helpers, in several codes.

    Functions of one name stand beside each other, with an empty row between two of them. None is
    where a code has no such line.
    """
    ordered = [source_code.ordered(pieces) for pieces in codes]
    tables = functions(
        [[piece.name for piece in pieces] for pieces in ordered],
        [[piece.source.splitlines() for piece in pieces] for pieces in ordered],
    )
    rows: list[tuple[str | None, ...]] = []
    for table in tables:
        rows += [(None,) * len(codes)] if rows else []
        rows += table
    return rows


def functions(
    names: Sequence[list[str]], texts: Sequence[Sequence[list[str]]]
) -> Iterator[list[tuple[str | None, ...]]]:
    """The rows of each function, one function after another.

    `names` are those of the functions in each code, and `texts` their lines. Functions of one name
    stand beside each other, and no line beside one of another function.
    """
    following = [iter(each) for each in texts]
    for row in align_all(names, equal_only=True):
        yield align_all([[] if name is None else next(own) for name, own in zip(row, following)])


def align_all(texts: Sequence[list[str]], equal_only: bool = False) -> list[tuple[str | None, ...]]:
    """Rows of the corresponding lines of several texts; None has no partner.

    Each text is aligned with those before it, where the first line of a row represents the row.
    """
    rows: list[tuple[str | None, ...]] = [(line,) for line in texts[0]]
    for number, text in enumerate(texts[1:], 1):
        first_lines = [next(line for line in row if line is not None) for row in rows]
        known = iter(rows)
        rows = [
            ((None,) * number if a is None else next(known)) + (b,)
            for a, b in align(first_lines, text, equal_only)
        ]
    return rows


def align(
    left: list[str], right: list[str], equal_only: bool = False
) -> list[tuple[str | None, str | None]]:
    """Pair the lines of two texts; None has no partner.

    Equal ones are paired, and the others between these in their order, unless `equal_only`.
    """
    rows: list[tuple[str | None, str | None]] = []
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind == "replace" and equal_only:
            rows += [(line, None) for line in left[i:i_end]]
            rows += [(None, line) for line in right[j:j_end]]
        else:
            rows += zip_longest(left[i:i_end], right[j:j_end])
    return rows
