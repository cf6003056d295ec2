"""Converts characters to tokens and back, after one of three normalizations of the text."""

import re
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..errors import RNNScratchError, format_value

UNKNOWN = "<unk>"


def normalize(text: str, mode: str) -> str:
    """Normalize a text before it is tokenized.

    ``chapter``: lower-case letters and spaces, each line stripped, lines joined without a
    separator. ``spaced``: like ``chapter``, with a space between lines. ``none``: unchanged,
    for other scripts, capitals, punctuation and newlines.
    """
    if mode == "none":
        return text
    lines = [re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in text.split("\n")]
    # In the chapter, "us" at the end of a line and "his" at the start of the next become "ushis".
    return "".join(lines) if mode == "chapter" else " ".join(filter(None, lines))


def build(text: str) -> list[str]:
    """Return the vocabulary: ``<unk>``, then characters by falling frequency and code point."""
    counts = Counter(text)
    return [UNKNOWN, *sorted(counts, key=lambda character: (-counts[character], character))]


def encode(text: str, vocab: Sequence[str], unknown: str = "error") -> np.ndarray:
    """Return the tokens (n,) of a text, in the smallest unsigned integer type that fits.

    `unknown` determines what happens to characters that the vocabulary lacks: with ``error`` they
    raise RNNScratchError, with ``skip`` they are omitted.
    """
    table = np.zeros(sys.maxunicode + 1, np.min_scalar_type(len(vocab) - 1))
    table[[ord(character) for character in vocab[1:]]] = range(1, len(vocab))
    tokens = table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")]
    if tokens.all() or unknown == "skip":
        return tokens[tokens > 0]
    missing = "".join(sorted(set(text) - set(vocab)))
    raise RNNScratchError(
        f"The vocabulary lacks the characters {format_value(missing)}.",
        f"It has these characters: {format_value(''.join(sorted(vocab[1:])))}.\n"
        "Use `--unknown skip` to omit the others.",
    )


def decode(tokens: Sequence[int], vocab: Sequence[str]) -> str:
    """Return the text of the tokens."""
    return "".join(vocab[token] for token in tokens)
