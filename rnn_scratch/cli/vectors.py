"""The `vectors` command: write test vectors for programs in any language."""

from collections.abc import Sequence
from pathlib import Path

import click

from ..check import score, vector_files
from ..check.vector_calls import FUNCTIONS
from ..check.vectors import make
from ..contract import CELLS
from ..errors import RNNScratchError
from ..system import files
from .options import settings_options
from .screen import Screen


@click.command()
@click.argument("path", metavar="FILE", type=files.user_path)
@click.option("--cell", "cells", type=click.Choice([*CELLS]), multiple=True, help="Recurrent cell.")
@click.option(
    "--function",
    "functions",
    type=click.Choice([*FUNCTIONS, "train"]),
    multiple=True,
    help="Function.",
)
@settings_options(only=("seed", "dtype"), dtype="float64")
def vectors(
    path: Path, cells: Sequence[str], functions: Sequence[str], seed: int | None, dtype: str | None
) -> None:
    """Write inputs and outputs of each function to FILE, which ends in .json or .txt.

    A program in any language reads the file and writes its own outputs to another file, which
    `rnn-scratch check ANSWERS.json` compares with the reference. --cell and --function, which may
    be repeated, select tests. The page notebooks/site/vectors.md explains the format.

    The last lines say how many of the known mistakes the tests detect.
    """
    seed, dtype, screen = seed or 0, dtype or "float64", Screen()
    groups = make(cells, functions, seed, dtype)
    if not groups:
        raise RNNScratchError("No test has these options.")
    size = vector_files.write(path, groups, seed, dtype)
    count = sum(len(group.tests) for group in groups)
    screen.print_line(f"{path}: {count} tests in {len(groups)} groups, {size:,} bytes")
    lines = score.describe(score.score(groups))
    for line in lines[:1] if cells or functions else lines:  # a selection misses many mistakes
        screen.print_line(line)
