"""The site's page with the comparison of the frameworks, made from the records that exist."""

from collections.abc import Callable
from pathlib import Path

from rnn_scratch.compare import comparison, pictures, results, summary, words
from rnn_scratch.compare.plan import Record
from rnn_scratch.compare.report import CAPTIONS

from . import records, site_figures
from .names import framework
from .site_code import STATIC

TABLES = {
    "Speed of training": results.speed_cells,
    "Start, generation, memory": results.other_cells,
    "Quality": results.quality_cells,
}
# The title of each comparison, and which of its pictures and tables the page includes.
COMPARISONS = {
    "speed": ("Speed", ("speed", "start-up"), ("Speed of training", "Start, generation, memory")),
    "curves": ("The same curves", ("perplexity", "divergence"), ("Quality",)),
    "scaling": ("The cost of a larger network", ("scaling",), ("Speed of training",)),
}


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their places in the site."""
    images: dict[str, bytes] = {}
    measured = {
        name: comparison.read(folder / name)
        for name in COMPARISONS
        if (folder / name / comparison.RECORD).exists()
    }
    parts = [
        "# The frameworks compared",
        " ".join(SENTENCES[name](record) for name, record in measured.items()),
        "`rnn-scratch compare` runs the same training in each framework on equal terms: one "
        "process at a time, the same starting values and minibatches, the same number of threads "
        "and the same precision. Each backend is compared with the NumPy reference before "
        "anything is timed. The tables and pictures come from the records under "
        "`notebooks/comparisons`.",
    ]
    how: list[str] = []
    for name, (title, figures, tables) in COMPARISONS.items():
        parts.append(f"## {title}")
        if name not in measured:
            parts.append(
                "This has not been measured yet, or its record is missing. "
                f"`nox -s records -- {name}` makes it."
            )
            continue
        record = measured[name]
        captions = {**CAPTIONS, "divergence": words.float64_sentence(record)}
        with site_figures.ink():
            drawings = pictures.draw(record)
        for figure in (figure for figure in figures if f"{figure}.svg" in drawings):
            place = f"{STATIC}/figures/{name}-{figure}.svg"
            images[place] = site_figures.svg(drawings[f"{figure}.svg"])
            caption = captions[figure]
            parts.append(site_figures.figure(place, caption.split(". ")[0], caption))
        for caption in tables:
            parts += [f"**{caption}**", records.markdown(TABLES[caption](record))]
        how = how or words.how_measured(record)
        lines = [*words.setting_lines(record), *words.notes(record)]
        parts.append("\n".join(f"- {line}" for line in lines if line not in how))
    if how:
        parts += ["## How it was measured", *how]
    return "\n\n".join(parts) + "\n", images


def _fastest(record: Record) -> str:
    # Of the rows with the first number of threads, by its median.
    rows = [row for row in summary.speeds(record) if row.train and row.ratio]
    rows = [row for row in rows if row.value == rows[0].value]
    best = max(rows, key=lambda row: row.train.median if row.train else 0)
    assert best.train
    assert best.ratio
    threads = "one thread" if best.threads == 1 else f"{best.threads} threads"
    return (
        f"With {threads} and {record['settings']['num_hiddens']} hidden units, the fastest is "
        f"{framework(best.backend)}'s `{best.model}`: {best.train.median:,.0f} characters per "
        f"second, {best.ratio.median:.1f} times as many as {_named(summary.baseline(record))}."
    )


def _equal(record: Record) -> str:
    ends = [row.perplexity.median for row in summary.qualities(record) if row.perplexity]
    return (
        f"What they learn does not depend on the framework: after "
        f"{record['settings']['num_epochs']} epochs all perplexities are between "
        f"{min(ends):.3f} and {max(ends):.3f}."
    )


def _scaling(record: Record) -> str:
    # How the distance between the fastest and the slowest changes with the size.
    rows = [row for row in summary.speeds(record) if row.train]
    sizes = sorted({row.value for row in rows if row.value is not None})

    def spread(size: int) -> float:
        medians = [row.train.median for row in rows if row.value == size and row.train]
        return max(medians) / min(medians)

    return (
        f"How much the choice matters depends on the size: the fastest is {spread(sizes[0]):.1f} "
        f"times as fast as the slowest with {sizes[0]} hidden units, and "
        f"{spread(sizes[-1]):.1f} times with {sizes[-1]}."
    )


def _named(candidate: str) -> str:
    backend, model = candidate.split()
    return f"{framework(backend)}'s `{model}`"


# What the page begins with, a sentence about each comparison.
SENTENCES: dict[str, Callable[[Record], str]] = {
    "speed": _fastest,
    "curves": _equal,
    "scaling": _scaling,
}
