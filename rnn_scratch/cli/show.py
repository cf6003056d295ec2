"""The command `show`: a function of several backends side by side, or the difference of two."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from .. import registry
from ..contract import SCRATCH, VARIANTS, RNNScratchError
from ..system.terminal import echo
from . import display, source_code
from .source_code import Piece

ALL = tuple(function.__name__ for function in SCRATCH)
NARROWEST = 64  # of a column; below that too many lines wrap to be compared
GAP = 2


class Code(NamedTuple):
    """A variant of a backend: "torch" is its ``scratch``, "torch:fast" its ``fast``."""

    backend: str
    model: str

    def __str__(self) -> str:
        """Its name, as the options take it."""
        return self.backend if self.model == VARIANTS[0] else f"{self.backend}:{self.model}"


Pieces = dict[Code, list[Piece]]  # a function and its helpers, of each


@click.command()
@click.argument("piece")
@click.option("--backends", metavar="A,B,...", help="Only these, in this order.  [default: all]")
@click.option("--model", type=click.Choice(VARIANTS), help="The variant.  [default: scratch]")
@click.option("--diff", nargs=2, metavar="A B", help="Mark the differences between these two.")
def show(piece: str, backends: str | None, model: str | None, diff: tuple[str, str] | None) -> None:
    """Show the source of PIECE in several backends side by side.

    PIECE is params, state, step, forward, clip, train_epoch, predict, or any other function of a
    backend; or all. No framework needs to be installed.

    The source is that of the plain variant, scratch, unless --model says otherwise. A single
    backend's variant is written torch:fast, so that `show forward --diff torch torch:fast` shows
    how the optimized code differs from the plain code.
    """
    if backends is not None and diff is not None:
        raise RNNScratchError(
            f"--backends {backends} and --diff {' '.join(diff)} exclude each other: "
            "--diff names the two to show.\nLeave one of them out."
        )
    names = backends.split(",") if backends is not None else diff or ()
    codes = _choose(names, model or VARIANTS[0])
    if diff is not None and len(codes) == 1:
        raise RNNScratchError(
            f"--diff {diff[0]} {diff[1]} is one code twice; it takes two different ones, "
            f"such as: --diff {codes[0].backend} {codes[0].backend}:fast"
        )
    screen = display.console()
    for number, name in enumerate(ALL if piece == "all" else [piece]):
        pieces = {code: source_code.find(code.backend, name, code.model) for code in codes}
        present = {code: each for code, each in pieces.items() if each}
        if not present and piece != "all":
            raise _unknown(name, codes)
        if number and present:
            echo()
        if diff and present:
            _differences(screen, name, pieces)
        elif present and screen.is_terminal:
            _columns(screen, name, present)
        elif present:
            _one_after_another(present)
        if piece != "all" and len(present) < len(codes):
            echo(_absence(name, [code for code in codes if code not in present]), err=True)


def _choose(names: Sequence[str], model: str) -> list[Code]:
    # Those with these names, each once; or all whose source is on this machine.
    codes = []
    for name in names or registry.names():
        backend, _, variant = name.strip().partition(":")
        if variant and variant not in VARIANTS:
            raise RNNScratchError(
                f"{name.strip()}: there is no variant {variant!r}.\n"
                f"The variants are: {', '.join(VARIANTS)}."
            )
        try:
            source_code.files(backend)
            codes.append(Code(backend, variant or model))
        except RNNScratchError as error:
            if names:
                raise
            echo(f"skipping {name}: {error}", err=True)
    return list(dict.fromkeys(codes))


def _absence(name: str, codes: Sequence[Code]) -> str:
    where = ", ".join(map(str, codes))
    line = f"There is no {name} in: {where}."
    if name in ALL and any(code.model != VARIANTS[0] for code in codes):
        line += f" A variant takes from {VARIANTS[0]} what it does not define."
    return line


def _unknown(name: str, codes: Sequence[Code]) -> RNNScratchError:
    names = dict.fromkeys(each for code in codes for each in source_code.names(code.backend))
    if name in names:
        return RNNScratchError(_absence(name, codes))
    close = difflib.get_close_matches(name, [*names, "all"], 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    helpers = [each for each in names if each not in ALL]
    return RNNScratchError(
        f"There is no function {name!r} in {', '.join(map(str, codes))}.{hint}\n"
        f"The functions of the contract are: {', '.join(ALL)}; or all of these.\n"
        f"There are also: {', '.join(helpers)}."
    )


def _columns(screen: Console, name: str, pieces: Pieces) -> None:
    sources = {code: source_code.join(each) for code, each in pieces.items()}
    longest = max(len(line) for source in sources.values() for line in source.splitlines())
    minimum = min(longest, NARROWEST)
    number = max(1, min(len(pieces), (screen.width + GAP) // (minimum + GAP)))
    width = min(longest, (screen.width - GAP * (number - 1)) // number)
    screen.rule(Text(name, "bold"))
    rest = list(pieces)
    while rest:
        row, rest = rest[:number], rest[number:]
        grid = Table.grid(padding=(0, GAP, 0, 0))
        for _ in row:
            grid.add_column(width=width)
        grid.add_row(*(_title(code, pieces[code]) for code in row))
        grid.add_row(*(_python(sources[code]) for code in row))
        screen.print(grid)
        if rest:
            screen.print()


def _python(source: str) -> Syntax:
    # In the terminal's own colours and on its own background, so that it suits light and dark ones.
    style = "ansi_dark"
    return Syntax(source, "python", theme=style, background_color="default", word_wrap=True)


def _title(code: Code, pieces: list[Piece]) -> Text:
    return Text.assemble((str(code), "bold"), "  ", (_place(pieces[0]), "dim"))


def _place(piece: Piece) -> str:
    # Relative to the current folder, to open it from there.
    here = Path.cwd()
    file = piece.file.relative_to(here) if piece.file.is_relative_to(here) else piece.file
    return f"{file}:{piece.line}"


def _one_after_another(pieces: Pieces) -> None:
    texts = [
        f"# {code}: {_place(each[0])}\n{source_code.join(each)}" for code, each in pieces.items()
    ]
    echo("\n\n\n".join(texts))


def _differences(screen: Console, name: str, pieces: Pieces) -> None:
    titles = [f"{code}: {_place(each[0]) if each else ''}" for code, each in pieces.items()]
    sources = [source_code.join(each).splitlines() for each in pieces.values()]
    if sources[0] == sources[1]:
        echo(f"{name} is the same in {' and '.join(map(str, pieces))}.")
    elif screen.is_terminal:
        screen.rule(Text(name, "bold"))
        screen.print(_beside(sources, titles, (screen.width - 3) // 2))
    else:
        difference = difflib.unified_diff(sources[0], sources[1], titles[0], titles[1], lineterm="")
        echo("\n".join(difference))


def _beside(sources: list[list[str]], titles: list[str], width: int) -> Table:
    # Corresponding lines beside each other, with a mark between those that differ, like sdiff.
    table = Table.grid(padding=0)
    for each in (min(width, 100), 3, min(width, 100)):
        table.add_column(width=each)
    table.add_row(Text(titles[0], "bold"), "", Text(titles[1], "bold"))
    syntax = _python("")
    left, right = (iter(syntax.highlight("\n".join(each)).split("\n")) for each in sources)
    for a, b in source_code.align(*sources):
        first = Text() if a is None else next(left)
        second = Text() if b is None else next(right)
        mark = " < " if b is None else " > " if a is None else " | " if a != b else ""
        if a is not None and b is not None:
            for side, text in enumerate((first, second)):
                for span in _changes(a, b)[side]:
                    text.stylize("reverse", *span)
        elif mark:
            (first if b is None else second).stylize("bold")
        table.add_row(first, Text(mark, "bold"), second)
    return table


def _changes(a: str, b: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    # The words in which two lines differ: where each begins and ends in either line.
    words = [list(re.finditer(r"\w+|\s+|.", line)) for line in (a, b)]
    matcher = difflib.SequenceMatcher(
        None, [each.group() for each in words[0]], [each.group() for each in words[1]], False
    )
    left, right = [], []
    for tag, a1, a2, b1, b2 in matcher.get_opcodes():
        if tag != "equal":
            left += [(words[0][a1].start(), words[0][a2 - 1].end())] if a2 > a1 else []
            right += [(words[1][b1].start(), words[1][b2 - 1].end())] if b2 > b1 else []
    return left, right
