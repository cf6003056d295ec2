"""Normalize texts and convert characters to tokens and back."""

import re
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..errors import RNNScratchError, format_value

UNKNOWN = "<unk>"


def normalize(text: str, mode: str) -> str:
    """Normalize a text for tokenization.

    ``chapter``: lower-case letters and spaces, each line stripped, lines joined without a
    separator. ``spaced``: like ``chapter``, with a space between lines. ``none``: unchanged,
    to keep other scripts, capitals, punctuation and newlines.
    """
    if mode == "none":
        return text
    lines = [re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in text.split("\n")]
    # In the chapter, "him" at the end of a line and "was" at the start of the next become "himwas".
    return "".join(lines) if mode == "chapter" else " ".join(filter(None, lines))


def build(text: str) -> list[str]:
    """Build the vocabulary: ``<unk>``, then characters by descending count, ties by code point."""
    counts = Counter(text)
    return [UNKNOWN, *sorted(counts, key=lambda character: (-counts[character], character))]


def encode(text: str, vocab: Sequence[str], unknown: str = "error") -> np.ndarray:
    """Return a text's tokens (n,) in the smallest unsigned integer type that fits.

    Characters missing from the vocabulary raise RNNScratchError if `unknown` is ``error``; they
    are omitted if it is ``skip``.
    """
    table = np.zeros(sys.maxunicode + 1, np.min_scalar_type(len(vocab) - 1))
    table[[ord(character) for character in vocab[1:]]] = range(1, len(vocab))
    tokens = table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")]
    if tokens.all() or unknown == "skip":
        return tokens[tokens > 0]
    unknown_characters = format_value("".join(sorted(set(text) - set(vocab))))
    raise RNNScratchError(
        f"The vocabulary lacks these characters: {unknown_characters}.",
        f"It has these characters: {format_value(''.join(sorted(vocab[1:])))}.\n"
        'To ignore them, use `unknown="skip"`.',
    )


def decode(tokens: Sequence[int], vocab: Sequence[str]) -> str:
    """Return the text that the tokens encode."""
    return "".join(vocab[token] for token in tokens)
