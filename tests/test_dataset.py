"""Preparing a text for a run: training tokens and held-out tokens."""

import pytest

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import dataset, vocabulary
from rnn_scratch.text.corpus import Text

CONTENT = "The quick brown fox\njumps over 2 lazy dogs.\n" * 10
TEXT = Text("file", "here", CONTENT, "0" * 64)


def prepare(text=TEXT, **settings):
    return dataset.prepare(text, Settings(batch_size=2, num_steps=4, **settings))


@pytest.mark.parametrize("how", ["chapter", "spaced", "none"])
def test_the_vocabulary_is_that_of_the_whole_text(how):
    whole = vocabulary.normalize(CONTENT, how)
    prepared = prepare(normalize=how, max_tokens=12)
    assert prepared.vocab == vocabulary.build(whole)
    assert vocabulary.decode(prepared.train, prepared.vocab) == whole[:12]
    assert len(prepared.valid) == 0


@pytest.mark.parametrize(
    ("max_tokens", "valid_tokens", "train", "valid"),
    [
        (0, 0, slice(0, 440), slice(0, 0)),
        (0, 30, slice(0, 410), slice(410, 440)),
        (100, 30, slice(0, 100), slice(100, 130)),
        (420, 30, slice(0, 410), slice(410, 440)),
        (10_000, 0, slice(0, 440), slice(0, 0)),
        (0, 428, slice(0, 12), slice(12, 440)),
    ],
)
def test_held_out_tokens_follow_the_training_tokens(max_tokens, valid_tokens, train, valid):
    prepared = prepare(normalize="none", max_tokens=max_tokens, valid_tokens=valid_tokens)
    assert len(CONTENT) == 440
    assert vocabulary.decode(prepared.train, prepared.vocab) == CONTENT[train]
    assert vocabulary.decode(prepared.valid, prepared.vocab) == CONTENT[valid]


@pytest.mark.parametrize(
    ("max_tokens", "share", "train", "used"), [(0, 0.25, 330, 440), (200, 0.1, 180, 200)]
)
def test_a_share_is_held_out_of_the_characters_that_are_used(max_tokens, share, train, used):
    prepared = prepare(normalize="none", max_tokens=max_tokens, valid_share=share)
    assert vocabulary.decode(prepared.train, prepared.vocab) == CONTENT[:train]
    assert vocabulary.decode(prepared.valid, prepared.vocab) == CONTENT[train:used]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"valid_tokens": 440}, "--valid-tokens 440 leaves nothing to train on: the text has 440"),
        ({"valid_tokens": 429}, "The text to train on has 11 characters; .* it needs 12"),
        ({"max_tokens": 11}, "The text to train on has 11 characters; .* it needs 12"),
    ],
)
def test_too_little_text(settings, words):
    with pytest.raises(RNNScratchError, match=words):
        prepare(normalize="none", **settings)


def test_a_text_of_other_letters():
    with pytest.raises(RNNScratchError, match=r"has no letters from a to z.*\n.*--normalize none"):
        prepare(TEXT._replace(content="привет 123\n" * 20))
    assert len(prepare(TEXT._replace(content="привет 123\n" * 20), normalize="none").train) == 220
