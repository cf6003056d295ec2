"""Prepare a run's text: normalize, tokenize, split and describe it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from ..errors import RNNScratchError
from ..settings import Settings
from ..system.records import Count, Record
from ..system.terminal import LogLine
from . import books, minibatches, vocabulary

MIN_LINE_LENGTH = 40  # shorter lines are often titles
MAX_PREFIX_LENGTH = 21


@dataclass(frozen=True)
class Dataset:
    """A tokenized text: its vocabulary, training tokens, held-out tokens and first words."""

    vocab: list[str]
    train: np.ndarray
    valid: np.ndarray
    beginning: str


class TextRecord(Record):
    """The metadata used to find a text again and verify it."""

    corpus: str  #: a name in `books.NAMES`, or "file"
    #: A path, "built in", or a book's name (not its path in the cache, which is private).
    origin: Annotated[str, Meta(max_length=2**16)]
    sha256: str  #: digest of the text before normalization
    vocabulary: Count  #: number of distinct tokens
    train_tokens: Count  #: number of training tokens
    valid_tokens: Annotated[int, Meta(ge=0, le=2**53)]  #: number of held-out tokens
    #: The text's first words, the default prefix for generated text.
    beginning: Annotated[str, Meta(max_length=MAX_PREFIX_LENGTH)] = ""

    @property
    def name(self) -> str:
        """The text's name in `books.NAMES`, or its file's name."""
        return Path(self.origin).name if self.corpus == "file" else self.corpus


def log_removed_characters(text: books.Text, mode: str, log: LogLine) -> None:
    """Log the fraction of a user's text that normalization removes, and how to keep it."""
    removed_characters = re.sub(r"[A-Za-z\s]+", "", text.content)
    if removed_characters and mode != "none" and text.corpus == "file":
        share = f"{len(removed_characters) / len(text.content):.2%}"
        examples = ", ".join(map(repr, [*dict.fromkeys(removed_characters)][:5]))
        hint = 'to keep them, use `normalize="none"`.'
        log(f"`normalize` removes {share} of the characters ({examples}); {hint}")


def prepare(text: books.Text, settings: Settings) -> Dataset:
    """Normalize and tokenize a text, and split it into training and held-out tokens."""
    normalized_text = vocabulary.normalize(text.content, settings.normalize)
    if not normalized_text:
        problem = f"The text ({text.origin}) has no letters from a to z."
        raise RNNScratchError(problem, 'For other scripts, use `normalize="none"`.')
    vocab = vocabulary.build(normalized_text)
    tokens = vocabulary.encode(normalized_text, vocab)
    end = max(0, len(tokens) - settings.valid_tokens)
    end = min(settings.max_tokens or end, end)
    num_valid = settings.valid_tokens or round(settings.valid_share * end)
    if settings.valid_share:
        end -= num_valid
    minibatches.require(end, settings.batch_size, settings.num_steps)
    if settings.holds_out and num_valid < 2:
        name = "valid_share" if settings.valid_share else "valid_tokens"
        problem = f"`{name}` holds out too few characters ({num_valid})."
        raise RNNScratchError(problem, "Hold out at least 2 characters, or none.")
    beginning = _find_first_words(text.content[:5000], settings.normalize) or vocab[1]
    return Dataset(vocab, tokens[:end], tokens[end : end + num_valid], beginning)


def _find_first_words(text: str, mode: str) -> str:
    """Return the first words of the first line that is not a title."""
    lines = [vocabulary.normalize(line, mode).strip() for line in text.split("\n")]
    first_line = next(filter(None, lines), "")
    line = next((line for line in lines if len(line) >= MIN_LINE_LENGTH), first_line)
    words = line[:MAX_PREFIX_LENGTH]
    return line if words == line else words[: words.rfind(" ") + 1] or words


def describe(text: books.Text, dataset: Dataset) -> TextRecord:
    """Return the record that describes a text."""
    origin = text.corpus if text.corpus in books.BOOKS else text.origin
    return TextRecord(
        corpus=text.corpus,
        # Escape bytes in the path that are not valid UTF-8, because JSON cannot contain them.
        origin=origin.encode("utf-8", "backslashreplace").decode(),
        sha256=text.sha256,
        vocabulary=len(dataset.vocab),
        train_tokens=len(dataset.train),
        valid_tokens=len(dataset.valid),
        beginning=dataset.beginning,
    )
