"""Says in which encoding a file that is not UTF-8 probably is, and how to convert it."""

import re
from pathlib import Path

from ..contract import RNNScratchError

# The usual encodings: among all that there are, guesses are worse. Those with zeros have their own
# list; that which begins with a mark is recognized by it.
WITH_ZEROS = ("utf_32", "utf_16", "utf_16_le", "utf_16_be")
MIXED = ("utf_16", "cp1252", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr")  # with Latin
OTHERS = ("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "tis_620")


def error(path: Path, data: bytes, problem: str) -> RNNScratchError:
    """The error for a text that is not UTF-8, with the command that converts it."""
    import charset_normalizer  # here, so that this module is imported quickly

    letters, others = (len(re.findall(each, data)) for each in (rb"[A-Za-z]", rb"[\x80-\xff]"))
    # A few letters with an accent could as well be those of another alphabet.
    candidates = WITH_ZEROS if b"\0" in data else MIXED if others < letters else MIXED + OTHERS
    guess = charset_normalizer.from_bytes(data, cp_isolation=list(candidates)).best()
    what = "Its encoding is unknown, if it is a text at all; cp1250 and cp1252 are usual in Europe."
    if guess:
        what = f"It is probably {guess.encoding}."
    old = path.as_posix()
    if not re.fullmatch(r"[\w ()./:+,-]+", old):  # which a shell may change
        old = "FILE"
    new = re.sub(r"(\.\w+)?$", r".utf-8\1", old, count=1)
    read = f"open('{old}', encoding='{guess.encoding if guess else 'ENCODING'}').read()"
    # For the shells of Unix and Windows alike: PowerShell's ">" would write UTF-16.
    return RNNScratchError(
        f"{problem}\n{what}\nThis command writes a copy in UTF-8:\n"
        f"python -c \"open('{new}', 'w', encoding='utf-8').write({read})\""
    )
