"""The commands `show`, for a function of several backends side by side or the difference of two,
and `standalone`, for a program of one file.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import click

from .. import registry
from ..contract import MODULES, VARIANTS
from ..errors import RNNScratchError
from ..settings import Settings, checked, option_of
from ..show import columns, source_code
from ..show.columns import Definitions, location
from ..show.standalone import program
from ..system.terminal import echo
from .options import option, separated, settings_options, specified
from .screen import Screen


@click.command()
@click.argument("function")
@click.option(
    "--backends", metavar="A,B,...", help="Show only these backends, in this order.  [default: all]"
)
@option("model", "Variant of the model.", default=VARIANTS[0])
@click.option(
    "--diff", nargs=2, metavar="A B", help="Mark the differences between these two backends."
)
def show(function: str, backends: str | None, model: str, diff: tuple[str, str] | None) -> None:
    """Show the source of FUNCTION in several backends side by side.

    FUNCTION is params, state, step, forward, clip, train_epoch, predict, or any other function of a
    backend. No framework needs to be installed. A narrow terminal shows the first backend's code,
    and how the others differ from it.

    By default, the source is that of the plain variant, scratch. Write a backend's variant as
    torch:fast: `show forward --diff torch torch:fast` shows how the optimized code differs from the
    plain code.
    """
    if backends is not None and diff:
        raise RNNScratchError(
            f"`--backends {backends}` and `--diff` cannot be used together.",
            "Omit `--backends`: `--diff` names the two backends to show.",
        )
    codes = _choose(diff or () if backends is None else separated(backends), model)
    if diff and len(codes) == 1:
        backend, *_ = codes[0].split(":")
        raise RNNScratchError(
            f"`--diff {diff[0]} {diff[1]}` names the same code twice.",
            f"Name two backends or variants, such as: --diff {backend} {backend}:fast",
        )
    sources = {}
    for code in codes:
        backend, _, variant = code.partition(":")
        sources[code] = source_code.find(backend, function, variant or VARIANTS[0])
    absent = [code for code in codes if not sources[code]]
    absence = f"There is no {function} in: {', '.join(absent)}."
    if any(function == piece.__name__ for piece in MODULES["scratch"]):
        absence += " A variant uses the functions of scratch that it does not define."
    if absent == codes:
        raise _unknown(function, absence, codes)
    _print(function, sources if diff else {code: s for code, s in sources.items() if s}, bool(diff))
    if absent:
        echo(absence, err=True)


def _choose(names: Sequence[str], model: str) -> list[str]:
    # Variants as the options name them, such as "torch" and "torch:fast": those with these names,
    # each once; or all whose source is on this machine.
    codes = []
    for name in names or registry.names():
        backend, _, variant = name.partition(":")
        try:
            source_code.files(backend)
            variant = checked("model", variant or model)
            codes.append(backend if variant == VARIANTS[0] else f"{backend}:{variant}")
        except RNNScratchError as error:
            if names:
                raise
            echo(f"skipping {name}: {error}", err=True)
    return list(dict.fromkeys(codes))


def _unknown(function: str, absence: str, codes: Sequence[str]) -> RNNScratchError:
    names = [name for code in codes for name in source_code.names(code.partition(":")[0])]
    if function in names:
        return RNNScratchError(absence)
    close = difflib.get_close_matches(function, names, 1)
    public = ", ".join(name for name in dict.fromkeys(names) if not name.startswith("_"))
    return RNNScratchError(
        f"There is no function {function!r} in {', '.join(codes)}.",
        f"Did you mean {close[0]}?" if close else f"There are: {public}.",
    )


def _print(name: str, sources: Definitions, diff: bool) -> None:
    screen = Screen()
    titles = [f"{code}: {location(p[0]) if p else ''}" for code, p in sources.items()]
    texts = [source_code.join(source) for source in sources.values()]
    if diff and texts[0] == texts[1]:
        screen.print(f"{name} is the same in {' and '.join(sources)}.")
    elif screen.is_terminal:
        columns.show(screen, name, sources, marked=diff)
    elif diff:
        left, right = (text.splitlines() for text in texts)
        lines = difflib.unified_diff(left, right, titles[0], titles[1], lineterm="")
        screen.print("\n".join(lines))
    else:
        screen.print("\n\n\n".join(f"# {title}\n{text}" for title, text in zip(titles, texts)))


@click.command("standalone")
@click.argument("backend")
@settings_options(omit=("valid_tokens", "valid_share"))  # it evaluates on no other text
def standalone(backend: str, **options: Any) -> None:
    """Print a program in one file that trains with BACKEND and needs only its framework.

    For example:  rnn-scratch standalone torch --cell lstm > rnn.py

    `python rnn.py book.txt` trains on a text, saves the weights and generates text. `python rnn.py
    book.npz` generates more. The settings are at the top of the program. With the same settings,
    `train` ends with the same weights, bit for bit. No framework needs to be installed.
    """
    given = specified(options)
    words = [f"{option_of(name)} {value}".removesuffix(" True") for name, value in given.items()]
    command = " ".join(["rnn-scratch standalone", backend, *words])
    echo(program(backend, Settings(**given), command).removesuffix("\n"))
