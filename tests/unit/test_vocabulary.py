"""Vocabularies: normalization, encoding, decoding, and splitting off held-out text."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import raised_message
from hypothesis import given
from hypothesis import strategies as st

from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, vocabulary
from rnn_scratch.text.books import Text

TEXT = "It's 3 o'clock:\n\n  time  flies,\nLIKE an Arrow! Ёлка, 猫\u2028\t\n"
# Arbitrary UTF-8 text with many letters and whitespace characters.
texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("abcXYZ \n\t.")))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("chapter", "it s o clocktime flieslike an arrow"),  # lines joined without a separator
        ("spaced", "it s o clock time flies like an arrow"),
        ("none", TEXT),
    ],
)
def test_normalization_modes_convert_an_example(mode, expected):
    assert vocabulary.normalize(TEXT, mode) == expected


@given(texts)
def test_normalization_keeps_lower_case_letters(text):
    expected_words = [word.lower() for word in re.findall("[A-Za-z]+", text)]
    spaced = vocabulary.normalize(text, "spaced")
    assert spaced == " ".join(expected_words)
    chapter = vocabulary.normalize(text, "chapter")
    assert set(chapter) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert chapter.replace(" ", "") == "".join(expected_words)
    assert "  " not in chapter
    assert chapter == chapter.strip()


def test_time_machine_has_the_chapters_token_counts():
    path = Path(os.environ.get("RNN_SCRATCH_DATA", ""), books.BOOKS["time-machine"].file)
    if not path.is_file():
        pytest.skip(f"The Time Machine is not at {path}, and no test downloads it")
    book = books.load("time-machine")
    text = vocabulary.normalize(book.content, "chapter")
    assert len(text) == 170_580
    assert text.startswith("the time machine by h g wellsithe time traveller for so it will be")
    vocab = vocabulary.build(text)
    assert len(vocab) == 28
    assert "".join(vocab[1:]) == " etainoshrdlmucfwgypbvkxzjq"
    assert len(vocabulary.normalize(book.content, "spaced")) == 173_427


def test_vocabulary_is_sorted_by_frequency_then_alphabetically():
    assert vocabulary.build("cbbaac d") == ["<unk>", "a", "b", "c", " ", "d"]
    assert vocabulary.build("zzz b aa") == ["<unk>", "z", " ", "a", "b"]
    assert vocabulary.build("") == ["<unk>"]


@given(texts)
def test_decoding_inverts_encoding(text):
    vocab = vocabulary.build(text)
    tokens = vocabulary.encode(text, vocab)
    assert tokens.shape == (len(text),)
    assert 0 not in tokens
    assert vocabulary.decode(tokens, vocab) == text


@pytest.mark.parametrize(
    ("size", "dtype"), [(255, "u1"), (256, "u2"), (65_535, "u2"), (65_536, "u4")]
)
def test_token_dtype_is_the_smallest_sufficient_integer(size, dtype):
    text = "".join(map(chr, range(0x10000, 0x10000 + size)))
    vocab = vocabulary.build(text)
    tokens = vocabulary.encode(text, vocab)
    assert tokens.dtype == dtype
    np.testing.assert_array_equal(tokens, range(1, size + 1))


@given(texts, texts)
def test_skip_omits_only_unknown_characters(text, vocab_text):
    vocab = vocabulary.build(vocab_text)
    expected = "".join(character for character in text if character in vocab_text)
    assert vocabulary.decode(vocabulary.encode(text, vocab, "skip"), vocab) == expected


def test_missing_characters_are_named():
    message = raised_message(vocabulary.encode, "Tea, 猫!", vocabulary.build("a teapot"))
    assert message.startswith("The vocabulary lacks these characters: '!,T猫'.\n")
    assert "has these characters: ' aeopt'." in message
    assert 'use `unknown="skip"`' in message
    # The message truncates a large vocabulary.
    large = [vocabulary.UNKNOWN, *map(chr, range(0x4E00, 0x9E00))]
    message = raised_message(vocabulary.encode, "a", large)
    assert re.search(r"has these characters: '.* \.\.\. .*'\.\n", message)
    assert len(message) < 1000


# Training tokens and held-out tokens


FOX = "The quick brown fox\njumps over 2 lazy dogs.\n" * 10
FOX_TEXT = Text("file", "here", FOX, "0" * 64)


def prepare(text=FOX_TEXT, **settings):
    return dataset.prepare(text, Settings(batch_size=2, num_steps=4, **settings))


@pytest.mark.parametrize("mode", ["chapter", "spaced", "none"])
def test_vocabulary_covers_the_whole_text(mode):
    normalized = vocabulary.normalize(FOX, mode)
    prepared = prepare(normalize=mode, max_tokens=12)
    assert prepared.vocab == vocabulary.build(normalized)
    assert vocabulary.decode(prepared.train, prepared.vocab) == normalized[:12]
    assert len(prepared.valid) == 0


@pytest.mark.parametrize(
    ("settings", "train", "end"),
    [
        ({}, 440, 440),
        ({"valid_tokens": 30}, 410, 440),
        ({"max_tokens": 100, "valid_tokens": 30}, 100, 130),
        ({"max_tokens": 420, "valid_tokens": 30}, 410, 440),
        ({"max_tokens": 10_000}, 440, 440),
        ({"valid_tokens": 428}, 12, 440),
        ({"valid_share": 0.25}, 330, 440),
        ({"max_tokens": 200, "valid_share": 0.1}, 180, 200),
    ],
)
def test_held_out_tokens_follow_the_training_tokens(settings, train, end):
    prepared = prepare(normalize="none", **{"max_tokens": 0, **settings})
    assert len(FOX) == 440
    assert vocabulary.decode(prepared.train, prepared.vocab) == FOX[:train]
    assert vocabulary.decode(prepared.valid, prepared.vocab) == FOX[train:end]


def test_text_in_another_script_is_encoded():
    russian = replace(FOX_TEXT, content="привет 123\n" * 20)
    with pytest.raises(RNNScratchError, match=r"no letters from a to z.*\n.*`normalize=\"none\"`"):
        prepare(russian)
    assert len(prepare(russian, normalize="none").train) == 220
