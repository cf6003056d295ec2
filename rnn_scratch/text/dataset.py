"""Prepares a text for a run: normalizes, tokenizes and splits it; and loads it again later."""

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
    """A text as a model reads it: the vocabulary, the training tokens and the held-out tokens."""

    vocab: list[str]
    train: np.ndarray
    valid: np.ndarray


class TextRecord(Record):
    """The description of a text in a record, from which it can be found and verified again.

    Attributes:
        corpus: A name among `books.NAMES`, or "file".
        origin: A path or, because the path of the cache folder is private, the name of a book.
        sha256: Digest of the text before normalization.
        vocabulary: Number of different tokens.
        train_tokens: Number of tokens to train on.
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
    """Log the characters of a user's text that normalization removes; return the settings to use.

    If it would remove most letters, the normalization becomes ``none``, unless it is explicit.
    """
    if settings.normalize == "none" or text.corpus != "file":
        return settings
    removed = re.sub(r"[A-Za-z\s]+", "", text.content)
    num_letters = sum(map(str.isalpha, text.content))
    if not is_explicit and sum(map(str.isalpha, removed)) > num_letters / 2:
        log("Most letters of the text are not from a to z: using `--normalize none` to keep them.")
        return replace(settings, normalize="none")
    if removed:
        share = 100 * len(removed) / len(text.content)
        log(f"normalize removes {share:.2g} % of the characters; `--normalize none` keeps them.")
    return settings


def prepare(text: books.Text, settings: Settings) -> Dataset:
    """Normalize and tokenize a text, and split it into training and held-out tokens."""
    normalized = vocabulary.normalize(text.content, settings.normalize)
    if not normalized:
        raise RNNScratchError(
            f"The text ({text.origin}) has no letters from a to z, so nothing is left of it with "
            f"`--normalize {settings.normalize}`.",
            "For other scripts, use `--normalize none`.",
        )
    vocab = vocabulary.build(normalized)
    tokens = vocabulary.encode(normalized, vocab)
    held_out, available = settings.valid_tokens, max(0, len(tokens) - settings.valid_tokens)
    end = min(settings.max_tokens or available, available)
    if settings.valid_share:
        held_out = round(settings.valid_share * end)
        end -= held_out
    minibatches.require(end, settings.batch_size, settings.num_steps)
    if settings.holds_out and held_out < 2:
        option = "--valid-share" if settings.valid_share else "--valid-tokens"
        raise RNNScratchError(
            f"`{option}` holds out {held_out} of the characters.",
            "Hold out at least 2 characters, or none.",
        )
    return Dataset(vocab, tokens[:end], tokens[end : end + held_out])


def reload_and_verify(original: TextRecord | books.Text, text: books.Text | None) -> books.Text:
    """Return the text of a run, loaded again if `text` is None; RNNScratchError if it changed."""
    if text is None:
        is_file = original.corpus == "file"
        text = books.read_file(original.origin) if is_file else books.load(original.corpus)
    if text.sha256 != original.sha256:
        raise RNNScratchError(
            f"The text ({text.origin}) is not the text that the run was started with "
            f"({original.origin}): its SHA-256 is {text.sha256} instead of {original.sha256}.",
            "Pass the original text with `--text`, or train a new run.",
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
