"""Escape control characters in text printed on a terminal.

Corpora, folder names and messages from other processes may contain control characters.
"""

import re
from collections.abc import Callable

LogLine = Callable[[str], object]  # a function that prints one line for the user

# C0 (except tab and newline), DEL and C1 are control codes. Bidirectional controls could reorder
# the project's own output, unlike the marks that Arabic and Hebrew need, which are kept. Some
# terminals break lines at U+2028 and U+2029. Surrogates encode file-name bytes that are not UTF-8.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Escape control characters that a terminal would interpret, such as ``\x1b``."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)
