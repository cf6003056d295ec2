"""The `show` command: print a function from several backends in columns, or from two as a diff."""

import difflib

import click

from .. import registry
from ..contract import VARIANTS
from ..errors import RNNScratchError
from ..settings import Variant, validate
from ..show import columns, source_code
from ..show.columns import Definitions, location
from .options import split_list
from .screen import Screen


@click.command()
@click.argument("function")
@click.option("--backends", metavar="A,B", help="Backends, in this order.  [default: all]")
@click.option(
    "--variant",
    "default_variant",
    type=click.Choice(VARIANTS),
    default=VARIANTS[0],
    help="Variant.",
    show_default=True,
)
@click.option("--diff", nargs=2, metavar="A B", help="Mark differences between two backends.")
def show(
    function: str, backends: str | None, default_variant: str, diff: tuple[str, str] | None
) -> None:
    """Show the source of FUNCTION in several backends, in columns if the terminal is wide.

    FUNCTION is step, forward, clip, predict, or any other function of a backend. Names may include
    the variant: `show forward --diff torch torch:fast` compares optimized with plain code.
    """
    if backends is not None and diff:
        raise RNNScratchError("`--backends` and `--diff` cannot be used together.", "Choose one.")
    names = diff or (split_list(backends) if backends is not None else registry.names())
    sources = {}
    for name in names:
        backend, _, variant = name.partition(":")
        variant = validate("variant", variant or default_variant, Variant)
        title = backend if variant == VARIANTS[0] else f"{backend}:{variant}"
        sources[title] = source_code.find(backend, function, variant)
    missing_titles = [title for title, definitions in sources.items() if not definitions]
    note = f"{function} is not defined in: {', '.join(missing_titles)}."
    if len(missing_titles) == len(sources) or (diff and missing_titles):
        known_names = [n for title in sources for n in source_code.names(title.partition(":")[0])]
        if function in known_names:
            raise RNNScratchError(note)
        hint = f"Use one of: {', '.join(source_code.CONTRACT)}."
        for similar in difflib.get_close_matches(function, known_names, 1):
            hint = f"Did you mean {similar}?"
        raise RNNScratchError(f"Unknown function {function!r}.", hint)
    sources = {title: sources[title] for title in sources if title not in missing_titles}
    _print(function, sources, is_diff=bool(diff))
    if missing_titles:
        Screen(stderr=True).print_line(note)


def _print(name: str, sources: Definitions, is_diff: bool) -> None:
    screen = Screen()
    titles = [f"{variant}: {location(parts)}" for variant, parts in sources.items()]
    codes = [source_code.join(source) for source in sources.values()]
    if is_diff and len(set(codes)) == 1:
        screen.print(f"{name} is the same in {' and '.join(sources)}.")
    elif screen.is_terminal:
        columns.show(screen, name, sources, is_diff=is_diff)
    elif is_diff:
        left, right = (code.splitlines() for code in codes)
        lines = difflib.unified_diff(left, right, titles[0], titles[1], lineterm="")
        screen.print("\n".join(lines))
    else:
        screen.print("\n\n\n".join(f"# {title}\n{code}" for title, code in zip(titles, codes)))
