"""A Rich console that escapes control characters on a terminal."""

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress
from rich.segment import Segment
from rich.table import Table

from ..system.terminal import printable

MIN_WIDTH = 20


class Screen(Console):
    """A console that escapes control characters on a terminal, but not in files or pipes."""

    def __init__(self, stderr: bool = False) -> None:
        """Create a console that prints to stderr if `stderr` is true, otherwise to stdout."""
        # Disable emoji codes: ":key:" in a text must not become an emoji.
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        self._word, self._column = "", 0  # printed by `print_words`
        if not self.is_terminal:
            self.width = 10_000
        elif self.width < MIN_WIDTH:  # some programs set COLUMNS to 0
            self.width = MIN_WIDTH

    def print_line(self, text: str = "") -> None:
        """Print text; on a terminal, wrap lines at spaces, except commands that users may copy."""
        if not self.is_terminal:  # Rich would drop control characters and replace tabs
            print(text, file=self.file, flush=True)
            return
        for line in printable(text).split("\n"):
            self.print(line, soft_wrap=line.startswith(("rnn-scratch ", "python ")))

    def print_words(self, text: str) -> None:
        """Print text that arrives in pieces and ends with a newline; break lines between words."""
        *words, self._word = re.split(r"(?<=\s)", self._word + printable(text))
        for word in words:
            size = cell_len(word.rstrip())
            if self._column and self._column + size > self.width:
                print(file=self.file)
                self._column = 0
            # Omit the space after a word that fills the line.
            word = word if self._column + size < self.width else word.rstrip(" ")
            print(word, end="", file=self.file, flush=True)
            self._column = 0 if word.endswith("\n") else self._column + cell_len(word)

    def progress_bar(self) -> Progress:
        """Return a progress bar with a description, disabled unless the screen is a terminal."""
        columns, is_off = (BarColumn(), "{task.description}"), not self.is_terminal
        return Progress(*columns, console=self, transient=True, disable=is_off)

    def table(
        self,
        heading: Sequence[str],
        rows: Sequence[Sequence[str]],
        title: str | None = None,
        is_numeric: bool = False,
        keys: int = 1,
    ) -> None:
        """Print a table without empty columns; `is_numeric` right-aligns all but the first column.

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
                justify = "right" if is_numeric and index else "left"
                table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
            for row in list(zip(*group))[1:]:
                table.add_row(*row)
            self.print(table)
            title = ""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render an object; on a terminal, escape its control characters."""
        for segment in super().render(renderable, options):
            if self.is_terminal and not segment.control:
                segment = segment._replace(text=printable(segment.text))
            yield segment
