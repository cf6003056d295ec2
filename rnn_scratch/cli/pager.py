"""A long output in the user's pager, as git does: PAGER, or less."""

import contextlib
import os
from collections.abc import Iterator

import click
from rich.console import Console


@contextlib.contextmanager
def paged(screen: Console) -> Iterator[None]:
    """Show what is printed in this context in the pager, if that is longer than the terminal."""
    # FORCE_COLOR makes Rich take a pipe for a terminal, so the file itself is asked too. An old
    # Windows console does not understand what a pager writes.
    if not screen.file.isatty() or screen.legacy_windows or screen.is_dumb_terminal:
        yield
        return
    with screen.capture() as captured:
        yield
    text = captured.get()
    if text.count("\n") < screen.height or os.environ.get("PAGER", "less").strip() in ("", "cat"):
        click.echo(text, nl=False, color=True)
    else:
        # git's options for less: R passes colours on, X leaves the output on the screen at the end.
        os.environ.setdefault("LESS", "FRX")
        click.echo_via_pager(text.removesuffix("\n"), color=True)
