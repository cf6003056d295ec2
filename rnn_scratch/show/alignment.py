"""Align the lines of several sources so that corresponding lines share a row."""

import difflib
from collections.abc import Iterator, Sequence

Row = tuple[str | None, ...]  # a line, or None, for each source


def align_functions(sources: Sequence[Sequence[tuple[str, str]]]) -> Iterator[list[Row]]:
    """Yield each function's aligned rows, matching functions by name.

    A source is a sequence of (name, text) pairs, one per function.
    """
    iterators = [iter(source) for source in sources]
    for names in align_all([[name for name, _ in source] for source in sources]):
        pairs = zip(names, iterators)
        texts = [None if name is None else next(source)[1] for name, source in pairs]
        yield align_all([[] if text is None else text.split("\n") for text in texts])


def align_all(sources: Sequence[list[str]]) -> list[Row]:
    """Align the lines of several sources into rows, with None for a missing line.

    Each source is aligned with the rows of the previous sources, using each row's first line.
    """
    rows: list[Row] = [(line,) for line in sources[0]]
    for index, source in enumerate(sources[1:], 1):
        first_lines = [next(line for line in row if line is not None) for row in rows]
        earlier_rows = iter(rows)
        rows = [
            ((None,) * index if a is None else next(earlier_rows)) + (b,)
            for a, b in align(first_lines, source)
        ]
    return rows


def align(left: list[str], right: list[str]) -> list[tuple[str | None, str | None]]:
    """Pair equal or similar lines of two sources, with None for a missing line."""
    similarity = [[_compute_similarity(a, b) for b in right] for a in left]
    # best[i][j] is the greatest total similarity when pairing lines of left[i:] and right[j:].
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            paired_total = similarity[i][j] + best[i + 1][j + 1] if similarity[i][j] else 0
            best[i][j] = max(paired_total, best[i + 1][j], best[i][j + 1])
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


def _compute_similarity(a: str, b: str) -> float:
    """Return 1 for equal lines, less for similar lines, and 0 for lines with little in common."""
    if a == b:
        return 1.0 if a.strip() else 0.1
    matcher = difflib.SequenceMatcher(None, a.strip(), b.strip(), autojunk=False)
    if matcher.real_quick_ratio() < 0.4 or matcher.quick_ratio() < 0.4:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= 0.4 else 0.0
