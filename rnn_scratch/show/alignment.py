"""Lines of several codes in rows, so that what corresponds stands beside each other."""

import difflib
from collections.abc import Iterator, Sequence

from . import source_code
from .source_code import Definition

Row = tuple[str | None, ...]  # a line of each code; None where a code has no such line


def beside(codes: Sequence[list[Definition]]) -> Iterator[list[Row]]:
    """Return the rows of a function and its helpers in several codes, one after another."""
    ordered = [source_code.ordered(definitions) for definitions in codes]
    return functions(
        [[definition.name for definition in definitions] for definitions in ordered],
        [[definition.source.splitlines() for definition in definitions] for definitions in ordered],
    )


def functions(
    names: Sequence[list[str]], texts: Sequence[Sequence[list[str]]]
) -> Iterator[list[Row]]:
    """Return the rows of each function, one function after another.

    `names` has the names of each code's functions, and `texts` their lines. Functions with the same
    name are aligned with each other, and their lines with no other function's.
    """
    following = [iter(lines) for lines in texts]
    for row in align_all(names):
        yield align_all([[] if name is None else next(it) for name, it in zip(row, following)])


def align_all(texts: Sequence[list[str]]) -> list[Row]:
    """Return rows of the corresponding lines of several texts; None has no partner.

    Each text is aligned with those before it, where the first line of a row represents the row.
    """
    rows: list[Row] = [(line,) for line in texts[0]]
    for number, text in enumerate(texts[1:], 1):
        first_lines = [next(line for line in row if line is not None) for row in rows]
        known = iter(rows)
        rows = [
            ((None,) * number if a is None else next(known)) + (b,)
            for a, b in align(first_lines, text)
        ]
    return rows


def align(left: list[str], right: list[str]) -> list[tuple[str | None, str | None]]:
    """Pair the lines of two texts, equal and similar ones with each other; None has no partner."""
    similarity = [[_similarity(a, b) for b in right] for a in left]
    # best[i][j]: the greatest total similarity of pairs of left[i:] and right[j:].
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            paired = similarity[i][j] + best[i + 1][j + 1] if similarity[i][j] else 0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    rows: list[tuple[str | None, str | None]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if similarity[i][j] and best[i][j] == similarity[i][j] + best[i + 1][j + 1]:
            rows.append((left[i], right[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            rows.append((left[i], None))
            i += 1
        else:
            rows.append((None, right[j]))
            j += 1
    return [*rows, *((a, None) for a in left[i:]), *((None, b) for b in right[j:])]


def _similarity(a: str, b: str) -> float:
    # 1 for equal lines; 0 for lines that have too little in common to be paired.
    if a == b:
        return 1.0 if a.strip() else 0.1  # an empty line says little about what belongs together
    matcher = difflib.SequenceMatcher(None, a.strip(), b.strip(), autojunk=False)
    if matcher.real_quick_ratio() < 0.4 or matcher.quick_ratio() < 0.4:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= 0.4 else 0.0
