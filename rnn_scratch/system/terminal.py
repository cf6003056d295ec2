"""Output to a terminal: escape control characters and wrap lines.

Texts, folder names and messages of other processes may contain control characters. Files and pipes
get them unchanged, because they are data there.
"""

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import NoReturn

LogLine = Callable[[str], object]  # a function that prints one line for the user

# C0 except tab and newline, DEL and C1 are commands. Controls of bidirectional text reorder the
# project's own output, except the marks for single characters, which Arabic and Hebrew need. Some
# terminals break lines at U+2028 and U+2029. Surrogates are bytes of a file name that is not UTF-8.
_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Escape the characters of a text that a terminal would execute, such as ``\x1b``."""
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Break lines longer than `width` at spaces; start continuation lines with `indent`.

    Commands, and words longer than a line, such as paths, stay whole: users copy them.
    """
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    lines = []
    for line in text.split("\n"):
        fits = len(line) <= width or line.startswith(("rnn-scratch ", "python "))
        lines += [line] if fits else wrapper.wrap(line)
    return "\n".join(lines)


def echo(text: str = "", err: bool = False, end: str = "\n") -> None:
    """Print the text to stdout or stderr; on a terminal, escape it and wrap complete lines."""
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        text = printable(text)
        text = wrapped(text, shutil.get_terminal_size().columns) if end == "\n" else text
    print(text, end=end, file=stream, flush=True)


def leave(code: int) -> NoReturn:
    """End the process after printing all output, without the exit handlers of libraries."""
    with contextlib.suppress(OSError):
        print(end="", flush=True)
    os._exit(code)
