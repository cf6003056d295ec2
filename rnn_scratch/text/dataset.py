"""Prepare the text of a run: normalize, tokenize and split it, and reload it later."""

import re
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from ..errors import RNNScratchError
from ..settings import Settings
from ..system.records import Count, Line, Record
from ..system.terminal import LogLine
from . import books, minibatches, vocabulary


class Dataset(NamedTuple):
    """A tokenized text: its vocabulary, training tokens and held-out tokens."""

    vocab: list[str]
    train: np.ndarray
    valid: np.ndarray


class TextRecord(Record):
    """A description of a text in a record, used to find the text again and to verify it.

    Attributes:
        corpus: A name in `books.NAMES`, or "file".
        origin: A path, "built in", or a book's name (the path of the cache folder is private).
        sha256: Digest of the text before normalization.
        vocabulary: Number of distinct tokens.
        train_tokens: Number of training tokens.
        valid_tokens: Number of held-out tokens.
    """

    corpus: Line
    origin: Annotated[str, Meta(max_length=2**16)]
    sha256: Line
    vocabulary: Count
    train_tokens: Count
    valid_tokens: Annotated[int, Meta(ge=0, le=2**53)]


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
        examples = " ".join(dict.fromkeys(removed))[:9]  # the first five characters
        removal = f"`normalize` removes {percent:.2g} % of the characters ({examples})"
        log(f"{removal}; set it to none to keep them.")
    return settings


def prepare(text: books.Text, settings: Settings) -> Dataset:
    """Normalize and tokenize a text, and split it into training and held-out tokens."""
    normalized = vocabulary.normalize(text.content, settings.normalize)
    if not normalized:
        raise RNNScratchError(
            f"The text ({text.origin}) has no letters from a to z.",
            "For other scripts, set `normalize` to none.",
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
    return Dataset(vocab, tokens[:end], tokens[end : end + held_out])


def reload_and_verify(original: TextRecord, text: books.Text | None) -> books.Text:
    """Return `text`, or the original text if None; raise RNNScratchError if the text differs."""
    if text is None:
        is_file = original.corpus == "file"
        text = books.read_file(original.origin) if is_file else books.load(original.corpus)
    if text.sha256 != original.sha256:
        raise RNNScratchError(
            f"The text ({text.origin}) is not the text that the run was started with "
            f"({original.origin}): its SHA-256 is {text.sha256} instead of {original.sha256}.",
            "Pass the original text as `text`, or train a new run.",
        )
    return text


def describe(text: books.Text, dataset: Dataset) -> TextRecord:
    """Return the description of a text for a record."""
    return TextRecord(
        corpus=text.corpus,
        origin=text.corpus if text.corpus in books.BOOKS else text.origin,
        sha256=text.sha256,
        vocabulary=len(dataset.vocab),
        train_tokens=len(dataset.train),
        valid_tokens=len(dataset.valid),
    )
