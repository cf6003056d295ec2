"""Prepare the text of a run: normalize, tokenize and split it, and reload it later."""

import re
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from ..errors import RNNScratchError
from ..settings import Settings
from ..system.records import Count, Record
from ..system.terminal import LogLine
from . import books, minibatches, vocabulary

# The first words of a text are from its first line with MIN_LINE_LENGTH characters, because shorter
# lines are often titles. They have at most MAX_PREFIX_LENGTH characters.
MIN_LINE_LENGTH, MAX_PREFIX_LENGTH = 40, 21


class Dataset(NamedTuple):
    """A tokenized text: its vocabulary, training tokens, held-out tokens and first words."""

    vocab: list[str]
    train: np.ndarray
    valid: np.ndarray
    beginning: str


class TextRecord(Record):
    """A description of a text in a record, used to find the text again and to verify it."""

    corpus: str  #: a name in `books.NAMES`, or "file"
    #: A path, "built in", or a book's name (the path of the cache folder is private).
    origin: Annotated[str, Meta(max_length=2**16)]
    sha256: str  #: digest of the text before normalization
    vocabulary: Count  #: number of distinct tokens
    train_tokens: Count  #: number of training tokens
    valid_tokens: Annotated[int, Meta(ge=0, le=2**53)]  #: number of held-out tokens
    #: First words of the text, the default prefix of generated text.
    beginning: Annotated[str, Meta(max_length=MAX_PREFIX_LENGTH)] = ""


def adapt_normalization(
    settings: Settings, text: books.Text, is_explicit: bool, log: LogLine
) -> Settings:
    """Log the fraction of a user's text that normalization removes; return the settings to use.

    If the default normalization would remove most letters, it is replaced by ``none``.
    """
    if settings.normalize == "none" or text.corpus != "file":
        return settings
    removed = re.sub(r"[A-Za-z\s]+", "", text.content)
    num_letters = sum(map(str.isalpha, text.content))
    if not is_explicit and sum(map(str.isalpha, removed)) > num_letters / 2:
        log("Most letters are not from a to z: `normalize` is set to none to keep them.")
        return replace(settings, normalize="none")
    if removed:
        percent = 100 * len(removed) / len(text.content)
        size = f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"
        examples = " ".join(dict.fromkeys(removed))[:9]  # the first five characters
        removal = f"`normalize` removes {size}% of the characters ({examples})"
        log(f'{removal}; to keep them, use `normalize="none"`.')
    return settings


def prepare(text: books.Text, settings: Settings) -> Dataset:
    """Normalize and tokenize a text, and split it into training and held-out tokens."""
    normalized = vocabulary.normalize(text.content, settings.normalize)
    if not normalized:
        raise RNNScratchError(
            f"The text ({text.origin}) has no letters from a to z.",
            'For other scripts, use `normalize="none"`.',
        )
    vocab = vocabulary.build(normalized)
    tokens = vocabulary.encode(normalized, vocab)
    held_out, num_available = settings.valid_tokens, max(0, len(tokens) - settings.valid_tokens)
    end = min(settings.max_tokens or num_available, num_available)
    if settings.valid_share:
        held_out = round(settings.valid_share * end)
        end -= held_out
    minibatches.require(end, settings.batch_size, settings.num_steps)
    if settings.holds_out and held_out < 2:
        name = "valid_share" if settings.valid_share else "valid_tokens"
        raise RNNScratchError(
            f"`{name}` holds out too few characters ({held_out}).",
            "Hold out at least 2 characters, or none.",
        )
    beginning = _first_words(text.content[:5000], settings.normalize) or vocab[1]
    return Dataset(vocab, tokens[:end], tokens[end : end + held_out], beginning)


def _first_words(text: str, mode: str) -> str:
    lines = [vocabulary.normalize(line, mode).strip() for line in text.split("\n")]
    lines = [*filter(None, lines), ""]
    line = next((line for line in lines if len(line) >= MIN_LINE_LENGTH), lines[0])
    words = line[:MAX_PREFIX_LENGTH]
    return line if words == line else words[: words.rfind(" ") + 1] or words


def describe(text: books.Text, dataset: Dataset) -> TextRecord:
    """Return the description of a text for a record."""
    origin = text.corpus if text.corpus in books.BOOKS else text.origin
    return TextRecord(
        corpus=text.corpus,
        # Escape bytes of a path that is not valid UTF-8, because JSON cannot contain them.
        origin=origin.encode("utf-8", "backslashreplace").decode(),
        sha256=text.sha256,
        vocabulary=len(dataset.vocab),
        train_tokens=len(dataset.train),
        valid_tokens=len(dataset.valid),
        beginning=dataset.beginning,
    )
