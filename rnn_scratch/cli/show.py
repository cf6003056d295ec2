"""The command `show`: a function of several backends side by side, or the difference of two."""

import contextlib
import difflib
import re
import textwrap
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
from . import alignment, display, source_code
from .pager import paged
from .source_code import Piece

ALL = tuple(function.__name__ for function in SCRATCH)
NARROWEST = 58  # of a column: two fit beside each other in a terminal of 120
BETWEEN = 3  # columns, for a mark
HANG = 8  # of a wrapped line's rest: more than the four of a block


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
@click.option("--no-pager", is_flag=True, help="Print a long output all at once.")
def show(
    piece: str,
    backends: str | None,
    model: str | None,
    diff: tuple[str, str] | None,
    no_pager: bool,
) -> None:
    """Show the source of PIECE in several backends side by side.

    PIECE is params, state, step, forward, clip, train_epoch, predict, or any other function of a
    backend; or all. No framework needs to be installed.

    The source is that of the plain variant, scratch, unless --model says otherwise. A single
    backend's variant is written torch:fast, so that `show forward --diff torch torch:fast` shows
    how the optimized code differs from the plain code.

    In a terminal, an output that is longer than it is shown by the program in PAGER, or by less;
    PAGER=cat turns this off, as --no-pager does.
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
    absent = ""
    with contextlib.nullcontext() if no_pager else paged(screen):
        for number, name in enumerate(ALL if piece == "all" else [piece]):
            pieces = {code: source_code.find(code.backend, name, code.model) for code in codes}
            present = {code: each for code, each in pieces.items() if each}
            if not present and piece != "all":
                raise _unknown(name, codes)
            if number and present:
                screen.print()
            if diff and present:
                _differences(screen, name, pieces)
            elif present and screen.is_terminal:
                _columns(screen, name, present)
            elif present:
                _one_after_another(screen, present)
            if piece != "all" and len(present) < len(codes):
                absent = _absence(name, [code for code in codes if code not in present])
    if absent:
        echo(absent, err=True)


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
    number = max(1, (screen.width + BETWEEN) // (NARROWEST + BETWEEN))
    screen.rule(Text(name, "bold"))
    rest = list(pieces)
    while rest:
        row, rest = rest[:number], rest[number:]
        screen.print(_beside(screen.width, {code: pieces[code] for code in row}))
        if rest:
            screen.print()


def _python(source: str) -> list[Text]:
    # Lines in the terminal's own colours and on its own background, to suit light and dark ones.
    syntax = Syntax(source, "python", theme="ansi_dark", background_color="default")
    return list(syntax.highlight(source).split("\n"))


def _wrapped(line: Text, width: int) -> Text:
    # The line cut at spaces if it is too long, with the rest below it indented.
    indent = len(line.plain) - len(line.plain.lstrip()) + HANG
    hang = " " * min(indent, width // 2)
    lines: list[Text] = []
    end = 0
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=hang,
        break_on_hyphens=False,
        expand_tabs=False,
        replace_whitespace=False,
    )
    for part in wrapper.wrap(line.plain):
        words = part if not lines else part.removeprefix(hang)
        start = line.plain.index(words, end)
        end = start + len(words)
        lines.append(Text(hang if lines else "").append_text(line[start:end]))
    return Text("\n").join(lines)


def _title(code: Code, pieces: list[Piece]) -> Text:
    place = _place(pieces[0]) if pieces else ""
    return Text.assemble((str(code), "bold"), "  ", (place, "dim"))


def _place(piece: Piece) -> str:
    # Relative to the current folder, to open it from there.
    here = Path.cwd()
    file = piece.file.relative_to(here) if piece.file.is_relative_to(here) else piece.file
    return f"{file}:{piece.line}"


def _one_after_another(screen: Console, pieces: Pieces) -> None:
    texts = [
        f"# {code}: {_place(each[0])}\n{source_code.join(each)}" for code, each in pieces.items()
    ]
    screen.print("\n\n\n".join(texts))


def _differences(screen: Console, name: str, pieces: Pieces) -> None:
    titles = [f"{code}: {_place(each[0]) if each else ''}" for code, each in pieces.items()]
    sources = [source_code.join(each).splitlines() for each in pieces.values()]
    if sources[0] == sources[1]:
        screen.print(f"{name} is the same in {' and '.join(map(str, pieces))}.")
    elif screen.is_terminal:
        screen.rule(Text(name, "bold"))
        screen.print(_beside(screen.width, pieces, marked=True))
    else:
        difference = difflib.unified_diff(sources[0], sources[1], titles[0], titles[1], lineterm="")
        screen.print("\n".join(difference))


def _beside(total: int, pieces: Pieces, marked: bool = False) -> Table:
    # Corresponding lines beside each other; like sdiff with a mark between two that differ.
    rows = alignment.beside(list(pieces.values()))
    longest = max(len(line) for row in rows for line in row if line is not None)
    width = min(longest, (total - BETWEEN * (len(pieces) - 1)) // len(pieces))
    table = Table.grid(padding=0)
    for number in range(2 * len(pieces) - 1):
        table.add_column(width=BETWEEN if number % 2 else width)
    _add_row(table, [_title(code, each) for code, each in pieces.items()])
    lines = [
        iter(_python("\n".join(line for line in column if line is not None)))
        for column in zip(*rows)
    ]
    for row in rows:
        texts = [Text() if line is None else next(each) for line, each in zip(row, lines)]
        mark = _mark(row, texts) if marked else ""
        _add_row(table, [_wrapped(text, width) for text in texts], mark)
    return table


def _add_row(table: Table, texts: Sequence[Text], mark: str = "") -> None:
    cells = [texts[0]]
    for text in texts[1:]:
        cells += [Text(mark, "bold"), text]
    table.add_row(*cells)


def _mark(row: tuple[str | None, ...], texts: Sequence[Text]) -> str:
    # The mark of two lines, in which what differs is made to stand out.
    a, b = row
    if a == b:
        return ""
    if a is None or b is None:
        texts[a is None].stylize("bold")
        return " > " if a is None else " < "
    for text, spans in zip(texts, _changes(a, b)):
        for span in spans:
            text.stylize("reverse", *span)
    return " | "


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
