"""The site's page on the comparison of the frameworks, made from the records that are there."""

from pathlib import Path

from rnn_scratch.compare import comparison, words
from rnn_scratch.compare.report import CAPTIONS

from . import records

TABLES = {
    "Speed of training": words.speed_cells,
    "Start, generation, memory": words.other_cells,
    "Quality": words.quality_cells,
}
# What each comparison is for: its title, and those of its pictures and tables that say so.
COMPARISONS = {
    "speed": ("Speed", ("speed", "start-up"), ("Speed of training", "Start, generation, memory")),
    "curves": ("The same curves", ("perplexity", "divergence"), ("Quality",)),
    "scaling": ("What a larger network costs", ("scaling",), ("Speed of training",)),
}


def compared(folder: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by where they lie in the site."""
    pictures: dict[str, bytes] = {}
    parts = [
        "# The frameworks compared",
        "`rnn-scratch compare` runs the same training in each framework on equal terms: one "
        "process at a time, the same starting values and minibatches, the same number of threads "
        "and the same precision. Each is held against the NumPy reference before a clock starts. "
        "What follows was drawn from the records under `notebooks/comparisons`.",
    ]
    how: list[str] = []
    for name, (title, shown, tables) in COMPARISONS.items():
        parts.append(f"## {title}")
        if not (folder / name / comparison.RECORD).exists():
            parts.append(
                "This has not been measured yet, or its record is not here. "
                f"`nox -s records -- {name}` makes it."
            )
            continue
        record = comparison.read(folder / name)
        captions = {**CAPTIONS, "divergence": words.float64_sentence(record)}
        drawn = pictures.draw(record)
        for what in (what for what in shown if f"{what}.svg" in drawn):
            place = f"figures/{name}-{what}.svg"
            pictures[place] = drawn[f"{what}.svg"]
            parts += [f"![{captions[what].split('. ')[0]}]({place})", captions[what]]
        for caption in tables:
            parts += [f"**{caption}**", records.markdown(TABLES[caption](record))]
        how = how or words.how_measured(record)
        said = [*words.setting_lines(record), *words.notes(record)]
        parts.append("\n".join(f"- {line}" for line in said if line not in how))
    if how:
        parts += ["## How it was measured", *how]
    return "\n\n".join(parts) + "\n", pictures
