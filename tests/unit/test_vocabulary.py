"""Texts to tokens and back, the three normalizations, and the parts of a text for a run."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import error_of
from hypothesis import given
from hypothesis import strategies as st

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, vocabulary
from rnn_scratch.text.books import Text

TEXT = "It's 3 o'clock:\n\n  time  flies,\nLIKE an Arrow! Ёлка, 猫\u2028\t\n"
# Any text in UTF-8, in which letters and line ends are frequent.
texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("abcXYZ \n\t.")))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("chapter", "it s o clocktime flieslike an arrow"),  # lines joined without a separator
        ("spaced", "it s o clock time flies like an arrow"),
        ("none", TEXT),
    ],
)
def test_normalizations(how, expected):
    assert vocabulary.normalize(TEXT, how) == expected


@pytest.mark.parametrize(
    ("size", "how", "model", "words"),
    [
        (1000, "none", "scratch", "1,000 different characters,.* `model='fast'` gathers rows"),
        (1000, "none", "fast", "1,000 different characters,.* for each character.$"),
        (999, "none", "scratch", None),
        (1000, "spaced", "scratch", None),
    ],
)
def test_the_cost_of_many_characters_is_said_before_training(size, how, model, words):
    characters = "".join(map(chr, range(ord("a"), ord("a") + size)))
    Path("t.txt").write_text(characters, encoding="utf-8")
    settings = {"normalize": how, "num_hiddens": 2, "num_epochs": 1, "max_tokens": 0}
    settings |= {"num_steps": 2, "batch_size": 2}
    lines = []
    rnn_scratch.train("numpy", text="t.txt", model=model, report=lines.append, **settings)
    assert (re.match("The text has", lines[0]) is not None) == (words is not None)
    assert words is None or re.search(words, lines[0])


@given(texts)
def test_chapter_and_spaced_have_the_same_lower_case_letters_and_single_spaces(text):
    words = [word.lower() for word in re.findall("[A-Za-z]+", text)]
    spaced = vocabulary.normalize(text, "spaced")
    assert spaced == " ".join(words)
    chapter = vocabulary.normalize(text, "chapter")
    assert set(chapter) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert chapter.replace(" ", "") == "".join(words)
    assert "  " not in chapter
    assert chapter == chapter.strip()


def test_the_time_machine_has_the_chapter_s_numbers():
    path = books.data_folder() / books.BOOKS["time-machine"].file
    if not path.exists():
        pytest.skip(f"The Time Machine is not at {path}")  # and no test downloads it
    book = books.load("time-machine")
    text = vocabulary.normalize(book.content, "chapter")
    assert len(text) == 170_580
    assert text.startswith("the time machine by h g wellsithe time traveller for so it will be")
    vocab = vocabulary.build(text)
    assert len(vocab) == 28
    assert "".join(vocab[1:]) == " etainoshrdlmucfwgypbvkxzjq"
    assert len(vocabulary.normalize(book.content, "spaced")) == 173_427


def test_most_frequent_first_ties_alphabetical():
    assert vocabulary.build("cbbaac d") == ["<unk>", "a", "b", "c", " ", "d"]
    assert vocabulary.build("zzz b aa") == ["<unk>", "z", " ", "a", "b"]
    assert vocabulary.build("") == ["<unk>"]


@given(texts)
def test_round_trip(text):
    vocab = vocabulary.build(text)
    tokens = vocabulary.encode(text, vocab)
    assert tokens.shape == (len(text),)
    assert 0 not in tokens
    assert vocabulary.decode(tokens, vocab) == text


@pytest.mark.parametrize(
    ("size", "dtype"), [(255, "u1"), (256, "u2"), (65_535, "u2"), (65_536, "u4")]
)
def test_tokens_have_as_few_bits_as_the_vocabulary_needs(size, dtype, monkeypatch):
    monkeypatch.setattr(vocabulary, "BLOCK", 1000)
    text = "".join(map(chr, range(0x10000, 0x10000 + size)))
    vocab = vocabulary.build(text)
    tokens = vocabulary.encode(text, vocab)
    assert tokens.dtype == dtype
    np.testing.assert_array_equal(tokens, range(1, size + 1))


@given(texts, texts)
def test_skip_omits_only_characters_that_the_vocabulary_lacks(text, known):
    vocab = vocabulary.build(known)
    left = "".join(character for character in text if character in known)
    assert vocabulary.decode(vocabulary.encode(text, vocab, "skip"), vocab) == left


def test_missing_characters_are_named_and_many_are_counted():
    message = error_of(vocabulary.encode, "Tea, 猫!", vocabulary.build("a teapot"))
    for named in ("'T' (U+0054)", "',' (U+002C)", "'!' (U+0021)", "'猫' (U+732B)", "' aeopt'"):
        assert named in message
    assert "'a' (" not in message
    assert "--unknown skip" in message
    with pytest.raises(RNNScratchError, match=r"'J' \(U\+004A\) and 16 more\."):
        vocabulary.encode("ABCDEFGHIJKLMNOPQRSTUVWXYZ", vocabulary.build("abc"))
    # A large vocabulary is not printed whole.
    large = [vocabulary.UNKNOWN, *map(chr, range(0x4E00, 0x9E00))]
    message = error_of(vocabulary.encode, "a", large)
    assert re.search(r"has these 20480 characters: '.* \.\.\. .*'\.\n", message)
    assert len(message) < 1000


# Training tokens and held-out tokens


FOX = "The quick brown fox\njumps over 2 lazy dogs.\n" * 10
FOX_TEXT = Text("file", "here", FOX, "0" * 64)


def prepare(text=FOX_TEXT, **settings):
    return dataset.prepare(text, Settings(batch_size=2, num_steps=4, **settings))


@pytest.mark.parametrize("how", ["chapter", "spaced", "none"])
def test_the_vocabulary_is_that_of_the_whole_text(how):
    whole = vocabulary.normalize(FOX, how)
    prepared = prepare(normalize=how, max_tokens=12)
    assert prepared.vocab == vocabulary.build(whole)
    assert vocabulary.decode(prepared.train, prepared.vocab) == whole[:12]
    assert len(prepared.valid) == 0


@pytest.mark.parametrize(
    ("settings", "train", "used"),
    [
        ({}, 440, 440),
        ({"valid_tokens": 30}, 410, 440),
        ({"max_tokens": 100, "valid_tokens": 30}, 100, 130),
        ({"max_tokens": 420, "valid_tokens": 30}, 410, 440),
        ({"max_tokens": 10_000}, 440, 440),
        ({"valid_tokens": 428}, 12, 440),
        ({"valid_share": 0.25}, 330, 440),  # of the characters that are used
        ({"max_tokens": 200, "valid_share": 0.1}, 180, 200),
    ],
)
def test_held_out_tokens_follow_the_training_tokens(settings, train, used):
    prepared = prepare(normalize="none", **{"max_tokens": 0, **settings})
    assert len(FOX) == 440
    assert vocabulary.decode(prepared.train, prepared.vocab) == FOX[:train]
    assert vocabulary.decode(prepared.valid, prepared.vocab) == FOX[train:used]


def test_a_text_of_other_letters():
    russian = FOX_TEXT._replace(content="привет 123\n" * 20)
    with pytest.raises(RNNScratchError, match=r"has no letters from a to z.*\n.*--normalize none"):
        prepare(russian)
    assert len(prepare(russian, normalize="none").train) == 220
