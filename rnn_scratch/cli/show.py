"""The command `show`: a function of several backends side by side, or the difference of two."""

import contextlib
import difflib
from collections.abc import Sequence

import click
from rich.console import Console

from .. import registry
from ..contract import SCRATCH, VARIANTS, RNNScratchError
from ..show import columns, source_code
from ..show.columns import Code, Pieces, place
from ..system.terminal import echo
from . import display
from .options import separated
from .pager import paged

ALL = tuple(function.__name__ for function in SCRATCH)


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

    In a terminal, output that is longer than the screen is shown by the pager that PAGER names, or
    by less; PAGER=cat turns this off, as --no-pager does.
    """
    if backends is not None and diff is not None:
        raise RNNScratchError(
            f"--backends {backends} and --diff {' '.join(diff)} exclude each other: "
            "--diff names the two to show.\nLeave one of them out."
        )
    names = diff or () if backends is None else separated(backends) or [backends]
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
                columns.print_rows(screen, name, present)
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


def _one_after_another(screen: Console, pieces: Pieces) -> None:
    texts = [
        f"# {code}: {place(each[0])}\n{source_code.join(each)}" for code, each in pieces.items()
    ]
    screen.print("\n\n\n".join(texts))


def _differences(screen: Console, name: str, pieces: Pieces) -> None:
    titles = [f"{code}: {place(each[0]) if each else ''}" for code, each in pieces.items()]
    sources = [source_code.join(each).splitlines() for each in pieces.values()]
    if sources[0] == sources[1]:
        screen.print(f"{name} is the same in {' and '.join(map(str, pieces))}.")
    elif screen.is_terminal:
        columns.print_differences(screen, name, pieces)
    else:
        difference = difflib.unified_diff(sources[0], sources[1], titles[0], titles[1], lineterm="")
        screen.print("\n".join(difference))
