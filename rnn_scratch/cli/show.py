"""The command `show`: print a function from several backends in columns, or from two as a diff."""

import difflib
from collections.abc import Sequence

import click

from .. import registry
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..settings import Variant, validate
from ..show import columns, source_code
from ..show.columns import Definitions, location
from .options import option, separated
from .screen import Screen


@click.command()
@click.argument("function")
@click.option(
    "--backends", metavar="A,B,...", help="Show only these backends, in this order.  [default: all]"
)
@option("--model", Variant, "Variant of the model.", default=VARIANTS[0], show_default=True)
@click.option(
    "--diff", nargs=2, metavar="A B", help="Mark the differences between these two backends."
)
def show(function: str, backends: str | None, model: str, diff: tuple[str, str] | None) -> None:
    """Show the source of FUNCTION in several backends, in columns.

    FUNCTION is step, forward, clip, predict, or any other function of a backend. Names may include
    the variant: `show forward --diff torch torch:fast` compares optimized with plain code.
    """
    if backends is not None and diff:
        raise RNNScratchError(
            f"`--backends {backends}` and `--diff` cannot be used together.",
            "Omit `--backends`: `--diff` names the two backends to show.",
        )
    variants = _choose(diff or () if backends is None else separated(backends), model)
    if diff and len(variants) == 1:
        raise RNNScratchError(f"`--diff {diff[0]} {diff[1]}` names the same code twice.")
    sources = {}
    for name in variants:
        backend, _, variant = name.partition(":")
        sources[name] = source_code.find(backend, function, variant or VARIANTS[0])
    missing = [name for name in variants if not sources[name]]
    note = f"{function} is not defined in: {', '.join(missing)}."
    if missing == variants:
        raise _unknown(function, note, variants)
    _print(function, sources if diff else {name: s for name, s in sources.items() if s}, bool(diff))
    if missing:
        Screen(stderr=True).print_line(note)


def _choose(names: Sequence[str], model: str) -> list[str]:
    # Return the named variants, such as torch:fast; without names, all backends with source code.
    variants = []
    for name in names or registry.names():
        backend, _, variant = name.partition(":")
        try:
            source_code.files(backend)
            variant = validate("model", variant or model, Variant)
            variants.append(backend if variant == VARIANTS[0] else f"{backend}:{variant}")
        except RNNScratchError as error:
            if names:
                raise
            Screen(stderr=True).print_line(f"skipping {name}: {error}")
    return list(dict.fromkeys(variants))


def _unknown(function: str, note: str, variants: Sequence[str]) -> RNNScratchError:
    names = [name for code in variants for name in source_code.names(code.partition(":")[0])]
    if function in names:
        return RNNScratchError(note)
    close = difflib.get_close_matches(function, names, 1)
    contract = ", ".join(source_code.CONTRACT)
    hint = f"Did you mean {close[0]}?" if close else f"Use one of: {contract}."
    return RNNScratchError(f"Unknown function {function!r}.", hint)


def _print(name: str, sources: Definitions, diff: bool) -> None:
    screen = Screen()
    titles = [f"{variant}: {location(parts)}" for variant, parts in sources.items()]
    codes = [source_code.join(source) for source in sources.values()]
    if diff and codes[0] == codes[1]:
        screen.print(f"{name} is the same in {' and '.join(sources)}.")
    elif screen.is_terminal:
        columns.show(screen, name, sources, marked=diff)
    elif diff:
        left, right = (code.splitlines() for code in codes)
        lines = difflib.unified_diff(left, right, titles[0], titles[1], lineterm="")
        screen.print("\n".join(lines))
    else:
        screen.print("\n\n\n".join(f"# {title}\n{code}" for title, code in zip(titles, codes)))
