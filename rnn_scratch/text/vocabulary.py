"""Converts characters to tokens and back, after one of three normalizations of the text."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import RNNScratchError, shown

UNKNOWN = "<unk>"
# By code: lower-case letters and the ends of lines as they are, anything else a space.
NORMAL = bytes(
    ord(c.lower()) if c.isascii() and (c.isalpha() or c == "\n") else 32
    for c in map(chr, range(256))
)
MANY = 1000  # characters; with NumPy's scratch a minibatch takes five times as long as with 28


def normalize(text: str, how: str) -> str:
    """Normalize a text before it is tokenized.

    ``chapter``: lower-case letters and spaces, each line stripped, lines joined without a
    separator. ``spaced``: the same with a space between lines. ``none``: unchanged, for other
    scripts, capitals, punctuation and newlines.
    """
    if how == "none":
        return text
    # Without a list of lines or words, which could take many times the memory of the text.
    words = text.encode("ascii", "replace").translate(NORMAL).decode()
    if how == "spaced":
        words = words.replace("\n", " ")
    while "  " in words:
        words = words.replace("  ", " ")
    # The chapter's: "us" at the end of a line and "his" at the start of the next become "ushis".
    return words.replace(" \n", "\n").replace("\n ", "\n").replace("\n", "").strip()


def build(text: str) -> list[str]:
    """The vocabulary: ``<unk>``, then the characters by falling frequency, ties by code point."""
    counts = Counter(text)
    return [UNKNOWN, *sorted(counts, key=lambda character: (-counts[character], character))]


def warn(text: str, how: str, model: str, say: Callable[[str], object]) -> None:
    """Say what a large vocabulary costs, where the normalized text has MANY characters or more."""
    size = len(set(text)) if how == "none" else 0  # otherwise at most 27
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
    say(line)


def encode(text: str, vocab: Sequence[str], unknown: str = "error") -> np.ndarray:
    """The tokens (n,) of a text.

    `unknown` determines what happens to characters that the vocabulary lacks: with ``error`` they
    raise RNNScratchError, with ``skip`` they are omitted.
    """
    index = {character: token for token, character in enumerate(vocab)}
    missing = sorted(set(text) - set(index))
    if missing and unknown != "skip":
        named = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        known = "".join(sorted(character for character in vocab if len(character) == 1))
        raise RNNScratchError(
            f"The vocabulary lacks {named}{more}.",
            f"It has these {len(known)} characters: {shown(known)}.\n"
            "Remove the others from the text, or use `--unknown skip` to omit them.",
        )
    return np.fromiter((index[c] for c in text if c in index), dtype=np.int64)


def decode(tokens: Sequence[int], vocab: Sequence[str]) -> str:
    """The text of the tokens."""
    return "".join(vocab[token] for token in tokens)
