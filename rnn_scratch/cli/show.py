"""The command `show`: a function of several backends side by side, or the difference of two."""

import difflib
from collections.abc import Sequence

import click

from .. import registry
from ..contract import MODULES, VARIANTS
from ..errors import RNNScratchError
from ..settings import checked
from ..show import columns, source_code
from ..show.columns import Definitions, location
from ..show.source_code import Definition
from ..system.terminal import echo
from .options import option, separated
from .screen import Screen

ALL = tuple(function.__name__ for function in MODULES["scratch"])


@click.command()
@click.argument("function")
@click.option("--backends", metavar="A,B,...", help="Only these, in this order.  [default: all]")
@option("model", "The variant.", default=VARIANTS[0])
@click.option("--diff", nargs=2, metavar="A B", help="Mark the differences between these two.")
def show(function: str, backends: str | None, model: str, diff: tuple[str, str] | None) -> None:
    """Show the source of FUNCTION in several backends side by side.

    FUNCTION is params, state, step, forward, clip, train_epoch, predict, or any other function of a
    backend; or all. No framework needs to be installed. In a narrow terminal, the first backend's
    code is complete, and of the others there is what differs from it.

    The source is that of the plain variant, scratch, unless --model says otherwise. A single
    backend's variant is written torch:fast, so that `show forward --diff torch torch:fast` shows
    how the optimized code differs from the plain code.
    """
    if backends is not None and diff:
        raise RNNScratchError(
            f"`--backends {backends}` and `--diff` exclude each other.",
            "Omit `--backends`: `--diff` names the two to show.",
        )
    names = diff or () if backends is None else separated(backends)
    codes = _choose(names, model)
    if diff and len(codes) == 1:
        backend, *_ = codes[0].split(":")
        raise RNNScratchError(
            f"`--diff {diff[0]} {diff[1]}` names one code twice.",
            f"Name two different ones, such as: --diff {backend} {backend}:fast",
        )
    screen = Screen()
    for name in ALL if function == "all" else [function]:
        sources = {code: _find(code, name) for code in codes}
        absent = [code for code in codes if not sources[code]]
        if absent == codes:
            if function != "all":
                raise _unknown(name, codes)
            continue
        if not diff:
            sources = {code: source for code, source in sources.items() if source}
        _print(screen, name, sources, bool(diff))
        if function == "all":
            screen.print()
    if absent and function != "all":
        echo(_absence(function, absent), err=True)


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


def _find(code: str, name: str) -> list[Definition]:
    backend, _, variant = code.partition(":")
    return source_code.find(backend, name, variant or VARIANTS[0])


def _absence(name: str, codes: Sequence[str]) -> str:
    more = f" A variant takes from {VARIANTS[0]} what it does not define." if name in ALL else ""
    return f"There is no {name} in: {', '.join(codes)}.{more}"


def _unknown(name: str, codes: Sequence[str]) -> RNNScratchError:
    backends = [code.partition(":")[0] for code in codes]
    names = dict.fromkeys(known for backend in backends for known in source_code.names(backend))
    if name in names:
        return RNNScratchError(_absence(name, codes))
    close = difflib.get_close_matches(name, [*names, "all"], 1)
    public = ", ".join(known for known in names if not known.startswith("_"))
    hint = f"Did you mean {close[0]}?" if close else f"There are: {public}; or all, for scratch's."
    return RNNScratchError(f"There is no function {name!r} in {', '.join(codes)}.", hint)


def _print(screen: Screen, name: str, sources: Definitions, diff: bool) -> None:
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
