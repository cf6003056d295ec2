"""Prepares a text for a run: normalizes, tokenizes and splits it; and loads it again later."""

from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta

from ..errors import RNNScratchError
from ..settings import Settings
from ..system.records import Count, Line, Record
from ..system.terminal import Say
from . import books, minibatches, vocabulary


class Dataset(NamedTuple):
    """A text as a model reads it: the vocabulary, the training tokens and the held-out tokens."""

    vocab: list[str]
    train: np.ndarray
    valid: np.ndarray


class TextRecord(Record):
    """What a record says of the text that was trained on: enough to find and verify it again."""

    corpus: Line  # a name among `books.NAMES`, or "file"
    # A path or, because the path of the data folder is private, the name of a book.
    origin: Annotated[str, Meta(max_length=2**16)]
    sha256: Line  # before normalization
    vocabulary: Count  # number of tokens
    train_tokens: Count
    valid_tokens: Annotated[int, Meta(ge=0, le=2**53)]


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
    held_out, available = settings.valid_tokens, len(tokens) - settings.valid_tokens
    end = min(settings.max_tokens or available, available)
    if settings.valid_share:
        held_out = round(settings.valid_share * end)
        end -= held_out
    if settings.valid_tokens and end < 1:
        raise RNNScratchError(
            f"`--valid-tokens {settings.valid_tokens}` leaves nothing to train on: the text has "
            f"{len(tokens):,} characters."
        )
    minibatches.require(end, settings.batch_size, settings.num_steps)
    if settings.holds_out and held_out < 2:
        option = "--valid-share" if settings.valid_share else "--valid-tokens"
        raise RNNScratchError(
            f"`{option}` holds out {held_out} of the characters.",
            "Hold out at least 2 characters, or none.",
        )
    return Dataset(vocab, tokens[:end], tokens[end : end + held_out])


def reload_and_verify(
    original: TextRecord | books.Text, text: books.Text | None, say: Say = lambda line: None
) -> books.Text:
    """Return the text of a run, loaded again if `text` is None; RNNScratchError if it changed."""
    if text is None:
        is_file = original.corpus == "file"
        text = books.read_file(original.origin, say) if is_file else books.load(original.corpus)
    if text.sha256 != original.sha256:
        raise RNNScratchError(
            f"The text ({text.origin}) is not the text that the run was started with "
            f"({original.origin}): its SHA-256 is {text.sha256} instead of {original.sha256}.",
            "Pass the original text with `--text`, or train a new run.",
        )
    return text


def describe(text: books.Text, dataset: Dataset) -> TextRecord:
    """Return what a record says of a text."""
    return TextRecord(
        corpus=text.corpus,
        origin=text.corpus if text.corpus in books.BOOKS else text.origin,
        sha256=text.sha256,
        vocabulary=len(dataset.vocab),
        train_tokens=len(dataset.train),
        valid_tokens=len(dataset.valid),
    )
