"""What is shown: not more than can be read, and nothing that a terminal executes.

Texts, the names of folders, messages of other processes, and whatever is read from a file may have
such characters. They are escaped where a stream is a terminal; into a file or a pipe they go as
they are, because there they are data.
"""

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import NoReturn

Say = Callable[[str], object]  # receives a line for the user

# C0 (ESC begins a command, CR and BS overwrite what is on the line) except tab and newline, DEL,
# and C1, which are commands of one character. The controls of bidirectional text that embed,
# override or isolate also reorder what the project itself prints after them; the marks for single
# characters (U+200E, U+200F, U+061C) do not, and belong to Arabic and Hebrew texts. The separators
# of lines and paragraphs begin a line in some terminals and none in others. Surrogates are the
# bytes of a file's name that are not UTF-8.
_EXECUTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return the text with what a terminal would execute as escapes, such as ``\x1b``."""
    return _EXECUTED.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Break longer lines at spaces, and begin their further lines with `indent`.

    What a user may copy stays whole: words longer than a line, such as paths, and commands.
    """
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
    lines = []
    for line in text.split("\n"):
        fits = len(line) <= width or line.startswith(("rnn-scratch ", "python "))
        lines += [line] if fits else wrapper.wrap(line)
    return "\n".join(lines)


def echo(text: str = "", err: bool = False, end: str = "\n") -> None:
    """Print the text to stdout or stderr; for a terminal, as `printable` and `wrapped` make it.

    With another `end`, the text is a part of a line, which the terminal breaks.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # as in a program without a console on Windows
        return
    if stream.isatty():
        text = printable(text)
        text = wrapped(text, shutil.get_terminal_size().columns) if end == "\n" else text
    print(text, end=end, file=stream, flush=True)


def leave(code: int) -> NoReturn:
    """End the process when all is printed, without what libraries do at an exit."""
    with contextlib.suppress(OSError):
        print(end="", flush=True)
    os._exit(code)
