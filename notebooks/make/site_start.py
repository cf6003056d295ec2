"""The site's start page: what the network learns, and the same function in two frameworks."""

import re
from collections.abc import Sequence
from pathlib import Path

from rnn_scratch.runs import folder as run_folder
from rnn_scratch.show import source_code

from . import names, readme, site_chapter, site_code, site_figures, site_parity
from .site_code import Code

SOURCE = Path("notebooks/site/index.md")
RUN = "numpy-scratch-sequential"  # whose samples the page has
EPOCHS = (10, 150, 200, 500)
FUNCTIONS = ("activation", "rnn", "step")  # of which one calls the other


def render(folder: Path, backends: Sequence[str]) -> str:
    """The page, with the results of the records in this folder."""
    values = {
        "frameworks": names.enumerate_words([names.framework(backend) for backend in backends]),
        "curve": site_figures.figure(
            site_parity.PERPLEXITY, "Perplexity against epochs: the same curve in each framework"
        ),
        "characters": f"{run_folder.read(folder / RUN)['text']['train_tokens']:,}",
        "samples": _samples(folder / RUN),
        "step": _step(backends[:2]),
    }
    text = SOURCE.read_text(encoding="utf-8")
    return re.sub(rf"\{{({'|'.join(values)})\}}", lambda match: values[match[1]], text)


def _samples(run: Path) -> str:
    rows = [
        [str(row.epoch), f"{row.perplexity:.2f}", f"*{row.sample.strip()}*"]
        for row in run_folder.history(run)
        if row.epoch in EPOCHS and row.sample
    ]
    return readme.markdown([["epoch", "perplexity", "what the network writes"], *rows])


def _step(backends: Sequence[str]) -> str:
    codes = {}
    for backend in backends:
        pieces = [piece for name in FUNCTIONS for piece in source_code.find(backend, name)[:1]]
        place = f"{site_chapter.relative(pieces[-1].file)}, line {pieces[-1].line}"
        codes[backend] = Code("\n\n\n".join(piece.source for piece in pieces), place=place)
    return site_code.group(codes, backends, kind="pair")
