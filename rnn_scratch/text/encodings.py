"""Says in which encoding a file that is not UTF-8 probably is, and how to convert it."""

import codecs
import re
from pathlib import Path

from ..contract import RNNScratchError

MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # those of UTF-32 have zeros
WIDE = ("utf_32", "utf_16", "utf_16_le", "utf_16_be")
# The usual encodings: among all that there are, guesses are worse.
MIXED = ("cp1252", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr")  # also with Latin letters
OTHERS = ("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "tis_620")
USUAL = """cp1252 (Western European), cp1250 (Central
European), cp1251 or koi8_r (Russian), gb18030 or big5 (Chinese), shift_jis or
euc_jp (Japanese), and euc_kr (Korean)."""
_SHOWN = 24  # characters of an excerpt


def likely(data: bytes) -> str | None:
    """The most likely encoding of a text that is not UTF-8; None: no good guess."""
    import charset_normalizer  # here, so that this module is imported quickly

    if b"\0" in data or data.startswith(MARKS):
        # A letter of most scripts has a zero as one of its bytes, or a space has.
        candidates: tuple[str, ...] = WIDE
    else:
        valid = sum(len(char.encode()) for char in data.decode(errors="ignore") if char > "\x7f")
        above = len(re.findall(rb"[\x80-\xff]", data))
        if 2 * valid > above:
            return "utf_8"
        # A few letters with an accent could as well be those of another alphabet.
        latin = above < len(re.findall(rb"[A-Za-z]", data))
        candidates = MIXED if latin else MIXED + OTHERS
    guess = charset_normalizer.from_bytes(data, cp_isolation=list(candidates)).best()
    return guess.encoding if guess else None


def error(path: Path, data: bytes, problem: str) -> RNNScratchError:
    """The error for a text that is not UTF-8, or is none, with the command that converts it."""
    encoding = likely(data)
    if encoding is None and (offset := data.find(0)) >= 0:
        return RNNScratchError(
            f"{path} is a binary file: it has a NUL byte at offset {offset}. Choose a text file."
        )
    how = f"encoding='{encoding or 'cp1250'}'"
    what = f"Its encoding is unknown. The usual ones are {USUAL}"
    if encoding == "utf_8":
        how += ", errors='replace'"
        what = "Most of it is UTF-8, but some characters are damaged: the command replaces them."
    elif encoding:
        what = f"It is probably {encoding}, and says {_excerpt(data, encoding)!r}.\n"
        what += f"If that is wrong: the usual ones are {USUAL}"
    return RNNScratchError(
        f"{problem}\n{what}\nThis command writes a copy in UTF-8:\n{_command(path, how)}"
    )


def _excerpt(data: bytes, encoding: str) -> str:
    # What is around the first character beyond ASCII, by which a reader recognizes an encoding.
    text = data.decode(encoding, "ignore").removeprefix("\ufeff")
    first = next((i for i, char in enumerate(text) if char > "\x7f"), 0)
    return text[max(0, first - _SHOWN // 2) : first + _SHOWN].strip()


def _command(path: Path, how: str) -> str:
    # For the shells of Unix and Windows alike: PowerShell's ">" would write UTF-16.
    old = path.as_posix()
    if not re.fullmatch(r"[\w ()./:+,-]+", old):  # which a shell may change
        old = "FILE"
    new = re.sub(r"(\.\w+)?$", r".utf-8\1", old, count=1)
    return f"python -c \"open('{new}', 'w', encoding='utf-8').write(open('{old}', {how}).read())\""
