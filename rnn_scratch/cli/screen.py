"""Rich's console, for content that may have characters that a terminal would execute."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ..system.terminal import printable


class Screen(Console):
    """A console that escapes content for a terminal, and passes it on unchanged to a file or pipe.

    Rich's own commands for colors and the cursor remain.
    """

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print; a single string to a file or pipe is not processed by Rich."""
        if len(args) == 1 and isinstance(args[0], str) and not self.is_terminal:
            # Rich would drop some control characters, and replace tabs.
            args = (_Unchanged(args[0]),)
        super().print(*args, **kwargs)

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """The string as Rich's text: escaped here already, because its length is measured."""
        return super().render_str(printable(text) if self.is_terminal else text, **kwargs)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything; what did not pass through `render_str` is escaped here."""
        for segment in super().render(renderable, options):
            if self.is_terminal and not segment.control:
                segment = segment._replace(text=printable(segment.text))
            yield segment


class _Unchanged:
    # A line that Rich prints as it is.
    def __init__(self, line: str) -> None:
        self.line = line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        yield Segment(self.line)
        yield Segment.line()
