"""Rich's console, with content escaped that a terminal would execute."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.segment import Segment
from rich.table import Table

from ..system.terminal import printable, wrapped


class Screen(Console):
    """A console that escapes content for a terminal, but not for a file or a pipe."""

    def __init__(self, **kwargs: Any) -> None:
        """Create the console for stdout, or with other arguments of Rich's console."""
        stream = sys.stderr if kwargs.get("stderr") else sys.stdout
        # Not Rich's `is_terminal`, which depends on FORCE_COLOR and TTY_COMPATIBLE. No emoji,
        # because ":key:" in a text must not become a picture.
        plain = {"highlight": False, "markup": False, "emoji": False}
        super().__init__(**{"force_terminal": stream.isatty(), **plain, **kwargs})
        if not self.is_terminal:
            self.width = 10_000

    def print_line(self, line: str) -> None:
        """Print a line, wrapped at spaces and indented on a terminal, unchanged elsewhere."""
        if self.is_terminal:
            self.print(wrapped(printable(line), self.width, "  "), soft_wrap=True)
        else:  # Rich would drop control characters and replace tabs
            print(line, file=self.file, flush=True)

    def bar(self) -> Progress:
        """Return a progress bar; tasks have the text fields `metrics` and `time_left`."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[metrics]}{task.fields[time_left]}"),
            console=self,
            transient=True,
            disable=not self.is_terminal,
        )

    def table(
        self,
        heading: Sequence[str],
        rows: Sequence[Sequence[str]],
        title: str | None = None,
        numbers: bool = False,
        keys: int = 1,
    ) -> None:
        """Print a table without empty columns; `numbers` right-aligns all but the first column.

        Columns that do not fit continue in another table, which repeats the first `keys` columns.
        """
        columns = [column for column in zip(heading, *rows) if any(column[1:])]
        groups = [columns[:keys]]
        for column in columns[keys:]:
            widths = [2 + max(map(len, map(printable, cells))) for cells in [*groups[-1], column]]
            if sum(widths) > self.width and len(groups[-1]) > keys:
                groups.append(columns[:keys])
            groups[-1].append(column)
        for group in groups:
            table = Table(box=None, title=title, title_justify="left")
            for index, (name, *_) in enumerate(group):
                justify = "right" if numbers and index else "left"
                table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
            for row in list(zip(*group))[1:]:
                table.add_row(*row)
            self.print(table)
            title = ""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Escape content on a terminal."""
        for segment in super().render(renderable, options):
            if self.is_terminal and not segment.control:
                segment = segment._replace(text=printable(segment.text))
            yield segment
