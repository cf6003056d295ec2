"""The site's page on the comparison of the frameworks, made from the records that are there."""

from pathlib import Path

from . import comparison, comparison_figures, records
from . import comparison_words as words
from .report import CAPTIONS

# What each comparison is for, in the order in which they are shown.
COMPARISONS = {
    "speed": "Speed",
    "curves": "The same curves",
    "scaling": "What a larger network costs",
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
    for name, title in COMPARISONS.items():
        parts.append(f"## {title}")
        if not (folder / name / comparison.RECORD).exists():
            parts.append(
                "This has not been measured yet, or its record is not here. "
                f"`nox -s records -- {name}` makes it."
            )
            continue
        record = comparison.read(folder / name)
        captions = {**CAPTIONS, "divergence": words.float64_sentence(record)}
        for file, content in comparison_figures.draw(record).items():
            if file.endswith(".svg"):
                what, place = file.removesuffix(".svg"), f"figures/{name}-{file}"
                pictures[place] = content
                parts += [f"![{title}: {what}]({place})", captions[what]]
        for caption, cells in (
            ("Speed of training", words.speed_cells(record)),
            ("Start, generation, memory", words.other_cells(record)),
            ("Quality", words.quality_cells(record)),
        ):
            if cells[1:]:
                parts += [f"**{caption}**", records.markdown(cells)]
        how = how or words.how_measured(record)
        said = [*words.setting_lines(record), *words.notes(record)]
        parts.append("\n".join(f"- {line}" for line in said if line not in how))
    if how:
        parts += ["## How it was measured", *how]
    return "\n\n".join(parts) + "\n", pictures
