"""Rich's console, for content that may have characters that a terminal would execute."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..system.terminal import printable, wrapped


class Screen(Console):
    """A console that escapes content for a terminal, and passes it on unchanged to a file or pipe.

    Rich's own commands for colors and the cursor remain. Lines to a pipe are not wrapped.
    """

    def __init__(self, **more: Any) -> None:
        """The terminal or pipe that is stdout, or what these arguments of Rich's console say."""
        # No emoji: ":key:" in a text must not become a picture.
        super().__init__(highlight=False, markup=False, emoji=False, **more)
        if not self.is_terminal:
            self.width = 10_000

    def say(self, line: str) -> None:
        """Print a line; on a terminal, it is wrapped at spaces and continues indented."""
        if self.is_terminal:
            line = wrapped(printable(line) if self._escapes else line, self.width, "  ")
        self.print(line, soft_wrap=True)

    def bar(self) -> Progress:
        """Return a bar for a terminal; a task has the fields `numbers` and `left`, texts."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}{task.fields[left]}"),
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
        """Print a table without empty columns; `numbers` are aligned at their right.

        Nothing is cut: columns for which the terminal is too narrow follow in another table below,
        beside the first columns again, the `keys` of the rows; and a cell that is wider alone is
        continued below itself.
        """
        columns = list(zip(heading, *rows))
        first, others = columns[:keys], [column for column in columns[keys:] if any(column[1:])]
        groups: list[list[Sequence[str]]] = [[]]
        for column in others:
            if groups[-1] and self._measured([*first, *groups[-1], column]) > self.width:
                groups.append([])
            groups[-1].append(column)
        for number, group in enumerate(groups):
            if number:
                self.print()
            shown = _table([*first, *group], numbers)
            shown.title = None if number else title
            self.print(shown)

    def _measured(self, columns: Sequence[Sequence[str]]) -> int:
        unlimited = self.options.update(width=10_000)
        return self.measure(_table(columns), options=unlimited).maximum

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print; a single string to a file or pipe is not processed by Rich."""
        raw = not (self._escapes or self.is_terminal)
        if raw and len(args) == 1 and isinstance(args[0], str):
            # Rich would drop some control characters, and replace tabs.
            print(args[0], file=self.file, flush=True)
        else:
            super().print(*args, **kwargs)

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """Return the string as Rich's text, escaped here because its length is measured."""
        return super().render_str(printable(text) if self._escapes else text, **kwargs)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything; what did not pass through `render_str` is escaped here."""
        for segment in super().render(renderable, options):
            if self._escapes and not segment.control:
                segment = segment._replace(text=printable(segment.text))
            yield segment

    @property
    def _escapes(self) -> bool:
        # The stream itself says so: FORCE_COLOR and TTY_COMPATIBLE tell Rich something else.
        return self.file.isatty()


def _table(columns: Sequence[Sequence[str]], numbers: bool = False) -> Table:
    table = Table(box=None, title_justify="left")
    for position, (heading, *_) in enumerate(columns):
        right = numbers and position > 0
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in list(zip(*columns))[1:]:
        table.add_row(*row)
    return table
