"""The site's page with the comparison of the frameworks, made from the records that exist."""

import json
from collections.abc import Callable
from pathlib import Path

from rnn_scratch.compare import certainty, comparison, conclusions, pictures, results, words
from rnn_scratch.compare.plan import Record
from rnn_scratch.compare.report import CAPTIONS

from . import readme, site_figures
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
    "curves-story": ("The same curves on another text", ("divergence",), ("Quality",)),
    "sizes-32": ("Three sizes, 32 rows", ("scaling",), ("Speed of training",)),
    "sizes-128": ("Three sizes, 128 rows", ("scaling",), ("Speed of training",)),
    "target-rnn": ("Time to a held-out perplexity", (), ("Quality",)),
    "target-lstm": ("Time to it, with an LSTM", (), ("Quality",)),
}
VERDICTS = "verdicts.json"  # of `nox -s records -- verdicts`


def render(folder: Path, records_folder: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their places in the site."""
    images: dict[str, bytes] = {}
    measured = {
        name: comparison.read(folder / name)
        for name in COMPARISONS
        if (folder / name / comparison.RECORD).exists()
    }
    parts = [
        "# The frameworks compared",
        " ".join(SENTENCES[name](measured[name]) for name in SENTENCES if name in measured),
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
            parts.append(_missing(name))
            continue
        record = measured[name]
        if name in OPENINGS:
            parts.append(OPENINGS[name](record))
        captions = {**CAPTIONS, "divergence": words.float64_sentence(record)}
        with site_figures.ink():
            drawings = pictures.draw(record)
        for figure in (figure for figure in figures if f"{figure}.svg" in drawings):
            place = f"{STATIC}/figures/{name}-{figure}.svg"
            images[place] = site_figures.svg(drawings[f"{figure}.svg"])
            caption = captions[figure]
            parts.append(site_figures.figure(place, caption.split(". ")[0], caption))
        for caption in tables:
            parts += [f"**{caption}**", readme.markdown(TABLES[caption](record))]
        how = how or words.how_measured(record)
        others = [line for line in words.how_measured(record) if line not in how]
        lines = [*words.setting_lines(record), *words.notes(record), *others]
        parts.append("\n".join(f"- {line}" for line in lines))
    parts += ["## Whether a verdict can be believed", *_verdicts(records_folder / VERDICTS)]
    if how:
        parts += ["## How it was measured", *how]
    return "\n\n".join(parts) + "\n", images


def _missing(name: str) -> str:
    return (
        "This has not been measured yet, or its record is missing. "
        f"`nox -s records -- {name}` makes it."
    )


def _verdicts(path: Path) -> list[str]:
    # What `compare --against` says where nothing has changed, and of code that is made slower.
    explanation = (
        "`rnn-scratch compare --against FOLDER` calls a candidate faster or slower than in the "
        f"older comparison in that folder {certainty.RULE}; otherwise there is no measurable "
        f"difference. {certainty.YARDSTICK} The ratios of the speeds, in the table, include the "
        "machine."
    )
    if not path.exists():
        return [explanation, _missing("verdicts")]
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = [["", "try", "backend", "ratio", "verdict"]]
    kinds = {"unchanged": "nothing changed", "slowed": f"{record['slower'] - 1:.0%} more time"}
    for kind, change in kinds.items():
        for number, comparison_of_try in enumerate(record[kind], 1):
            for backend, row in comparison_of_try["verdicts"].items():
                rows.append([change, str(number), backend, f"{row['ratio']:.3f}", row["verdict"]])
    runs = [run for pair in record["unchanged"] for run in (pair["first"], pair)]
    seconds = sorted(run["seconds"] for run in runs)
    tried = (
        f"Tries on {record['machine']['processor']}: {len(record['unchanged'])}, each with two "
        "comparisons in a row and one of a copy in which a minibatch takes "
        f"{record['slower'] - 1:.0%} more time. A comparison of all backends, without options, "
        f"took {seconds[0]} to {seconds[-1]} seconds."
    )
    return [explanation, tried, readme.markdown(rows)]


# What the page begins with, in three sentences, and what other sections do.
SENTENCES: dict[str, Callable[[Record], str]] = {
    "speed": conclusions.fastest,
    "curves": conclusions.results,
    "target-rnn": conclusions.results,
}
OPENINGS: dict[str, Callable[[Record], str]] = {
    "sizes-32": conclusions.scaling,
    "sizes-128": conclusions.scaling,
}
