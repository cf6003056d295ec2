"""Says in which encoding a file that is not UTF-8 probably is, and how to convert it."""

import codecs
import re
from pathlib import Path

from ..contract import RNNScratchError

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NAMES = {
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "gb18030": "GB18030, for Chinese",
    "cp1252": "Windows-1252, for Western European languages",
    "latin-1": "ISO 8859-1 (Latin-1), for Western European languages",
}
_OTHERS = (
    "cp1251 or koi8_r (Russian), shift_jis or euc_jp (Japanese), euc_kr (Korean) or big5 (Chinese)"
)
_SAMPLE = 2**20  # bytes of a file that are looked at
_SHOWN = 24  # characters of an excerpt


def wide(data: bytes) -> str | None:
    """The encoding of a text with two or four bytes for a letter, or None."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        candidates = ["utf-32", "utf-16"]  # four bytes that may also be two characters
    elif data.startswith(UTF_16):
        candidates = ["utf-16"]
    else:  # a letter of most scripts has a zero as one of its bytes, or its space has
        head = data[:_SAMPLE]
        zeros = [head[side::2].count(0) for side in (0, 1)]
        if not any(zeros) or 10 * max(zeros) < len(head) or 20 * min(zeros) > max(zeros):
            return None
        candidates = ["utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"]
    return next((each for each in candidates if _decodes(data, each)), None)


def likely(data: bytes) -> str | None:
    """The most likely encoding of a text that is not UTF-8; None: no good guess."""
    head = data[:_SAMPLE]  # cut perhaps within a character, which "ignore" omits
    above = sum(byte > 0x7F for byte in head)
    whole = head.decode("utf-8", "ignore")  # what is UTF-8 all the same
    if 2 * sum(len(char.encode()) for char in whole if char > "\x7f") > above:
        return "utf-8"
    if _decodes(data, "gb18030"):
        # Almost any two bytes are some rare character of GB18030; those of a text are common ones.
        characters = [char for char in head.decode("gb18030", "ignore") if char > "\x7f"]
        common = "".join(characters).encode("gb2312", "ignore")
        if len(common) >= 2 * 0.9 * len(characters):
            return "gb18030"
    letters = len(re.findall(rb"[A-Za-z]", head))
    if above > letters:  # a language that is not written in Latin letters
        return None
    if re.search(rb"[\x80-\x9f]", data):  # controls in Latin-1, and in Windows-1252 quotation marks
        return "cp1252" if _decodes(data, "cp1252") else None
    return "latin-1"


def error(
    path: Path, data: bytes, encoding: str | None, problem: str | None = None
) -> RNNScratchError:
    """The error for a text in this encoding, with the command that converts it."""
    what = [problem or f"{path} is not UTF-8."]
    how = f"encoding='{encoding or 'cp1251'}'"
    if encoding is None:
        what += [f"Its encoding may be {_OTHERS}, among others."]
    elif encoding == "utf-8":
        how += ", errors='replace'"
        what += ["Most of it is UTF-8, but some characters are damaged: the command replaces them."]
    else:
        what += [
            f"It is probably {_NAMES[encoding]}, and says {_excerpt(data, encoding)!r}.",
            f"If that is wrong, its encoding may be {_OTHERS}, among others.",
        ]
    what += ["This command writes a copy in UTF-8:", _command(path, how)]
    return RNNScratchError("\n".join(what))


def _decodes(data: bytes, encoding: str) -> bool:
    # Whether the data are a text in this encoding, without the controls that binary files have.
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return not re.search(r"[\x00-\x08\x0e-\x19\x7f]", text[:_SAMPLE])


def _excerpt(data: bytes, encoding: str) -> str:
    # What is around the first character beyond ASCII, by which a reader recognizes an encoding.
    text = data[:_SAMPLE].decode(encoding, "ignore").removeprefix("\ufeff")
    first = next((i for i, char in enumerate(text) if char > "\x7f"), 0)
    return text[max(0, first - _SHOWN // 2) : first + _SHOWN].strip()


def _command(path: Path, how: str) -> str:
    # For the shells of Unix and Windows alike: PowerShell's ">" would write UTF-16.
    old = str(path)
    if re.search(r"""["'$`!%\\\x00-\x1f]""", old.replace("\\", "/")):
        old = "FILE"
    old = old.replace("\\", "/")
    new = re.sub(r"(\.\w+)?$", r".utf-8\1", old, count=1)
    return f"python -c \"open('{new}', 'w', encoding='utf-8').write(open('{old}', {how}).read())\""
