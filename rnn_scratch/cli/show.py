"""The command `show`: a piece from several backends side by side, or what differs in two."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from .. import registry
from ..contract import PIECES, RNNScratchError
from . import display, source_code
from .source_code import Piece

ALL = tuple(piece.__name__ for piece in PIECES)
NARROWEST = 64  # of a column; below that so many lines wrap that nothing stands level
GAP = 2
Found = dict[str, list[Piece]]


@click.command()
@click.argument("piece")
@click.option("--backends", metavar="A,B,...", help="Only these, in this order.  [default: all]")
@click.option("--diff", nargs=2, metavar="A B", help="Mark what differs in these two.")
def show(piece: str, backends: str | None, diff: tuple[str, str] | None) -> None:
    """Show the source of PIECE in several backends side by side.

    PIECE is params, state, step, forward, clip, train_epoch, predict, or any other function of a
    backend; or all. No framework needs to be installed.
    """
    if backends is not None and diff is not None:
        raise RNNScratchError(
            f"--backends {backends} and --diff {' '.join(diff)} were both given: "
            "--diff says itself which two are shown."
        )
    if diff is not None and diff[0] == diff[1]:
        raise RNNScratchError(f"--diff {diff[0]} {diff[1]}: it takes two different backends.")
    screen = display.console()
    names = _chosen(backends.split(",") if backends is not None else diff or ())
    for number, wanted in enumerate(ALL if piece == "all" else [piece]):
        found = {name: source_code.find(name, wanted) for name in names}
        if not any(found.values()):
            raise _unknown(wanted, names)
        if number:
            click.echo()
        if diff:
            _differences(screen, wanted, found)
        elif screen.is_terminal:
            _columns(screen, wanted, {name: there for name, there in found.items() if there})
        else:
            _one_after_another({name: there for name, there in found.items() if there})
        if lacking := [name for name, there in found.items() if not there]:
            click.echo(f"There is no {wanted} in: {', '.join(lacking)}.", err=True)


def _chosen(asked: Sequence[str]) -> list[str]:
    # Those asked for, each once; or all whose source can be read, and a word on the others.
    names = list(dict.fromkeys(name.strip() for name in asked))
    readable = []
    for name in names or registry.names():
        try:
            source_code.files(name)
            readable.append(name)
        except RNNScratchError as error:
            if names:
                raise
            click.echo(f"{name} is left out: {error}", err=True)
    return readable


def _unknown(piece: str, names: Sequence[str]) -> RNNScratchError:
    helpers = dict.fromkeys(name for backend in names for name in source_code.names(backend))
    close = difflib.get_close_matches(piece, [*helpers, "all"], 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    others = [name for name in helpers if name not in ALL]
    return RNNScratchError(
        f"There is no piece {piece!r} in {', '.join(names)}.{hint}\n"
        f"The pieces are: {', '.join(ALL)}; or all of these.\n"
        f"What they are made of can be shown too: {', '.join(others)}."
    )


def _columns(screen: Console, piece: str, found: Found) -> None:
    sources = {name: source_code.joined(there) for name, there in found.items()}
    longest = max(len(line) for source in sources.values() for line in source.splitlines())
    needed = min(longest, NARROWEST)
    fitting = max(1, min(len(found), (screen.width + GAP) // (needed + GAP)))
    width = min(longest, (screen.width - GAP * (fitting - 1)) // fitting)
    screen.rule(Text(piece, "bold"))
    rest = list(found)
    while rest:
        row, rest = rest[:fitting], rest[fitting:]
        grid = Table.grid(padding=(0, GAP, 0, 0))
        for _ in row:
            grid.add_column(width=width)
        grid.add_row(*(_title(name, found[name]) for name in row))
        grid.add_row(*(_python(sources[name]) for name in row))
        screen.print(grid)
        if rest:
            screen.print()


def _python(source: str) -> Syntax:
    # In the terminal's own colours, on its own background: light and dark ones are served alike.
    style = "ansi_dark"
    return Syntax(source, "python", theme=style, background_color="default", word_wrap=True)


def _title(name: str, found: list[Piece]) -> Text:
    return Text.assemble((name, "bold"), "  ", (_place(found[0]), "dim"))


def _place(piece: Piece) -> str:
    # Where to open it, from where one is.
    here = Path.cwd()
    file = piece.file.relative_to(here) if piece.file.is_relative_to(here) else piece.file
    return f"{file}:{piece.line}"


def _one_after_another(found: Found) -> None:
    texts = [
        f"# {name}: {_place(there[0])}\n{source_code.joined(there)}"
        for name, there in found.items()
    ]
    click.echo("\n\n\n".join(texts))


def _differences(screen: Console, piece: str, found: Found) -> None:
    titles = [f"{name}: {_place(there[0]) if there else ''}" for name, there in found.items()]
    sources = [source_code.joined(there).splitlines() for there in found.values()]
    if sources[0] == sources[1]:
        click.echo(f"{piece} is the same in {' and '.join(found)}.")
    elif screen.is_terminal:
        screen.rule(Text(piece, "bold"))
        screen.print(_level(sources, titles, (screen.width - 3) // 2))
    else:
        click.echo(
            "\n".join(
                difflib.unified_diff(sources[0], sources[1], titles[0], titles[1], lineterm="")
            )
        )


def _level(sources: list[list[str]], titles: list[str], width: int) -> Table:
    # The two with their lines level, and a mark between those that differ, as sdiff has it.
    table = Table.grid(padding=0)
    for each in (min(width, 100), 3, min(width, 100)):
        table.add_column(width=each)
    table.add_row(Text(titles[0], "bold"), "", Text(titles[1], "bold"))
    syntax = _python("")
    left, right = (iter(syntax.highlight("\n".join(each)).split("\n")) for each in sources)
    for a, b in source_code.aligned(*sources):
        first = Text() if a is None else next(left)
        second = Text() if b is None else next(right)
        mark = " < " if b is None else " > " if a is None else " | " if a != b else ""
        if a is not None and b is not None:
            for side, text in enumerate((first, second)):
                for span in _changed(a, b)[side]:
                    text.stylize("reverse", *span)
        elif mark:
            (first if b is None else second).stylize("bold")
        table.add_row(first, Text(mark, "bold"), second)
    return table


def _changed(a: str, b: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    # What differs within two lines, by words: where it begins and ends in each.
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
