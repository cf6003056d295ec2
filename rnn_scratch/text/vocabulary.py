"""Converts characters to tokens and back, after one of three normalizations of the text."""

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import RNNScratchError, shown

UNKNOWN = "<unk>"
MANY = 1000  # characters; with NumPy's scratch a minibatch takes five times as long as with 28
BLOCK = 2**20  # characters that are converted at a time
# The lower-case letter of each ASCII character; newlines stay, and all others become spaces.
LETTERS = bytes(c | 32 if bytes([c]).isalpha() else c if c == 10 else 32 for c in range(256))


def normalize(text: str, how: str) -> str:
    """Normalize a text before it is tokenized.

    ``chapter``: lower-case letters and spaces, each line stripped, lines joined without a
    separator. ``spaced``: the same with a space between lines. ``none``: unchanged, for other
    scripts, capitals, punctuation and newlines.
    """
    if how == "none":
        return text
    words = text.encode("ascii", "replace").translate(LETTERS)
    if how == "spaced":
        words = words.replace(b"\n", b" ")
    while b"  " in words:  # half as many in each run of spaces
        words = words.replace(b"  ", b" ")
    # The chapter's: "us" at the end of a line and "his" at the start of the next become "ushis".
    words = words.replace(b" \n", b"\n").replace(b"\n ", b"\n").replace(b"\n", b"")
    return words.strip().decode()


def code_points(block: str) -> np.ndarray:
    """Return the code points (n,) of a part of a text."""
    return np.frombuffer(block.encode("utf-32-le", "surrogatepass"), "<u4")


def build(text: str) -> list[str]:
    """Return the vocabulary: ``<unk>``, then characters by falling frequency and code point."""
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for start in range(0, len(text), BLOCK):
        found = np.bincount(code_points(text[start : start + BLOCK]))
        counts[: len(found)] += found
    codes = np.flatnonzero(counts).tolist()
    return [UNKNOWN, *map(chr, sorted(codes, key=lambda code: -counts[code]))]


def warning(vocab: Sequence[str], model: str) -> Iterator[str]:
    """Return a line about what a large vocabulary costs, if it has at least MANY characters."""
    size = len(vocab) - 1
    if size < MANY:
        return
    line = (
        f"The text has {size:,} different characters, so an epoch takes long: the output layer has "
        "a unit for each character."
    )
    if model != "fast":
        line += (
            f" The {model} model also multiplies one-hot vectors of this length; `--model fast` "
            "gathers rows of the weights instead."
        )
    yield line


def encode(text: str, vocab: Sequence[str], unknown: str = "error") -> np.ndarray:
    """Return the tokens (n,) of a text, unsigned integers of as few bits as it needs.

    `unknown` determines what happens to characters that the vocabulary lacks: with ``error`` they
    raise RNNScratchError, with ``skip`` they are omitted.
    """
    table = np.zeros(sys.maxunicode + 1, np.min_scalar_type(len(vocab) - 1))
    table[[ord(character) for character in vocab[1:]]] = range(1, len(vocab))
    tokens = np.empty(len(text), table.dtype)
    for start in range(0, len(text), BLOCK):
        block = slice(start, start + BLOCK)
        tokens[block] = table[code_points(text[block])]
    if tokens.all():
        return tokens
    if unknown != "skip":
        missing = sorted(set(text) - set(vocab))
        named = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        known = "".join(sorted(vocab[1:]))
        raise RNNScratchError(
            f"The vocabulary lacks {named}{more}.",
            f"It has these {len(known)} characters: {shown(known)}.\n"
            "Remove the others from the text, or use `--unknown skip` to omit them.",
        )
    return tokens[tokens > 0]


def decode(tokens: Sequence[int], vocab: Sequence[str]) -> str:
    """Return the text of the tokens."""
    return "".join(vocab[token] for token in tokens)
