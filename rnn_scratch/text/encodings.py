"""Text from bytes: UTF-8, or an error with a guess at the encoding and what to do."""

import re
from pathlib import Path

from ..contract import RNNScratchError

# The usual encodings: among all that there are, guesses are worse. Those with zeros have their own
# list; that which begins with a mark is recognized by it.
WITH_ZEROS = ("utf_32", "utf_16", "utf_16_le", "utf_16_be")
WITH_LATIN = ("utf_16", "cp1252", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr")  # with Latin
WITHOUT_LATIN = ("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "tis_620")


def decode(data: bytes, source: str) -> str:
    """The text of UTF-8 with any line ends; RNNScratchError, with the place, for other bytes."""
    try:
        content = data.decode()
    except UnicodeDecodeError as error:
        raise RNNScratchError(
            f"{source} is not UTF-8: the byte at offset {error.start} is 0x{data[error.start]:02x}."
        ) from error
    if "\0" in content:  # which UTF-8 allows, and texts don't have
        raise RNNScratchError(f"{source} is not UTF-8: a byte is 0.")
    return content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def not_utf8(path: Path, data: bytes, problem: str) -> RNNScratchError:
    """The error for a text that is not UTF-8, with the command that converts it."""
    import charset_normalizer  # here, so that this module is imported quickly

    letters, others = (len(re.findall(each, data)) for each in (rb"[A-Za-z]", rb"[\x80-\xff]"))
    # A few letters with an accent could as well be those of another alphabet.
    candidates = (
        WITH_ZEROS
        if b"\0" in data
        else WITH_LATIN
        if others < letters
        else WITH_LATIN + WITHOUT_LATIN
    )
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
