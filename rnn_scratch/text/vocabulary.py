"""Characters to tokens and back, and the three ways of preparing a text for it."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..contract import RNNScratchError

UNKNOWN = "<unk>"


def _lines(text: str) -> list[str]:
    return [re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in text.split("\n")]


NORMALIZATIONS = {
    # The chapter's: "us" at the end of a line and "his" at the start of the next become "ushis".
    "chapter": lambda text: "".join(_lines(text)),
    "spaced": lambda text: " ".join(line for line in _lines(text) if line),
    "none": lambda text: text,
}


def normalize(text: str, how: str) -> str:
    """The text as it is trained on.

    ``chapter``: lower-case letters and spaces, each line stripped, lines joined with nothing
    between them. ``spaced``: the same with a space between lines. ``none``: as it is, for other
    scripts, capitals, punctuation and newlines.
    """
    return NORMALIZATIONS[how](text)


def build(text: str) -> list[str]:
    """The vocabulary: ``<unk>``, then the characters, most frequent first, ties alphabetical."""
    counts = Counter(text)
    return [UNKNOWN, *sorted(counts, key=lambda character: (-counts[character], character))]


def encode(text: str, vocab: Sequence[str], unknown: str = "error") -> np.ndarray:
    """Tokens (n,) of a text; characters that the vocabulary lacks are an error, or skipped.

    `unknown` is ``error``, which raises RNNScratchError with their names, or ``skip``.
    """
    index = {character: token for token, character in enumerate(vocab)}
    missing = sorted(set(text) - set(index))
    if missing and unknown != "skip":
        named = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        known = "".join(sorted(character for character in vocab if len(character) == 1))
        raise RNNScratchError(
            f"The vocabulary lacks {named}{more}.\n"
            f"It has these {len(known)} characters: {known!r}.\n"
            "Leave the others out of the text, or give --unknown skip, which does it for you."
        )
    return np.array([index[c] for c in text if c in index], dtype=np.int64)


def decode(tokens: Sequence[int], vocab: Sequence[str]) -> str:
    """The text of the tokens."""
    return "".join(vocab[token] for token in tokens)
