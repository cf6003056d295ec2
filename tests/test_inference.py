"""A model put to use, from Python: training, writing and measuring in a few lines."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from helpers import SETTINGS, SMALL

import rnn_scratch
from rnn_scratch.contract import PARAMETERS, RNNScratchError
from rnn_scratch.runs import checkpoint
from rnn_scratch.text import corpus, vocabulary

TEXT = "abcd " * 60


@pytest.fixture
def parrot(backend_name, tmp_path):
    """A run of a model that has learned TEXT by heart."""
    (tmp_path / "parrot.txt").write_text(TEXT)
    return rnn_scratch.train(
        backend_name, text="parrot.txt", normalize="none", num_epochs=25,
        num_hiddens=16, num_steps=5, batch_size=4, sigma=0.1,
    )  # fmt: skip


def test_from_training_to_measuring(backend_name):
    run = rnn_scratch.train(backend_name, num_epochs=3, **SMALL)
    assert run.perplexity == run.history[-1].perplexity < 28
    assert list(run.arrays) == list(PARAMETERS)
    again = rnn_scratch.resume(run, 6)
    assert again.perplexity < run.perplexity
    for form in (again, again.folder, str(again.folder), again.folder / checkpoint.FILE):
        text = rnn_scratch.predict(form, "the clock ", 20)
        assert len(text) == 30
        assert text.startswith("the clock ")
    found = rnn_scratch.evaluate(again, corpus="tide-clock")
    assert found.perplexity < found.unigram < found.uniform == 28


def test_a_parrot_repeats_its_text(parrot):
    assert rnn_scratch.predict(parrot, "ab", 23) == (TEXT * 2)[:25]
    assert rnn_scratch.predict(parrot, "d", 1) == "d "
    assert len(rnn_scratch.predict(parrot, "a")) == 51
    # Warmed up on all of the prefix, and not on its last character alone.
    assert rnn_scratch.predict(parrot, "cd abc", 4) == "cd abcd ab"


def test_perplexity_falls_below_the_unigram_s(parrot, tmp_path):
    found = rnn_scratch.evaluate(parrot, text="parrot.txt")
    assert 1 <= found.perplexity < 1.5
    assert found.unigram == pytest.approx(5)
    assert found.uniform == 6
    assert found.skipped == 0
    assert len(TEXT) - 4 <= found.tokens < len(TEXT)


def test_temperature_and_seed(parrot):
    def draw(temperature, seed):
        return rnn_scratch.predict(parrot, "ab", 60, temperature=temperature, seed=seed)

    greedy = rnn_scratch.predict(parrot, "ab", 60)
    assert draw(1e-3, 0) == greedy
    assert draw(5.0, 0) == draw(5.0, 0) != greedy
    assert draw(5.0, 0) != draw(5.0, 1)
    assert rnn_scratch.predict(parrot, "ab", 60, seed=1) == greedy


def test_without_a_record_a_checkpoint_is_read_with_numpy(parrot, tmp_path):
    copied = tmp_path / "model.safetensors"
    copied.write_bytes(checkpoint.find(parrot.folder).read_bytes())
    assert rnn_scratch.predict(copied, "ab", 8) == "abcd abcd "


def test_characters_that_are_lacking(parrot):
    with pytest.raises(RNNScratchError, match=r"lacks 'E' \(U\+0045\), 'x' \(U\+0078\)"):
        rnn_scratch.predict(parrot, "abEx", 5)
    assert rnn_scratch.predict(parrot, "aEbx", 3, unknown="skip") == "abcd "


@pytest.mark.parametrize(("prefix", "unknown"), [("", "error"), ("", "skip"), ("XYZ", "skip")])
def test_an_empty_prefix(small, prefix, unknown):
    with pytest.raises(RNNScratchError, match="The prefix is empty"):
        rnn_scratch.predict(small, prefix, unknown=unknown)


@pytest.fixture
def small():
    return rnn_scratch.train("numpy", num_epochs=1, **SMALL)


BAD = [
    ("length", 0), ("length", -1), ("seed", -1), ("seed", 2**32),
    ("temperature", 0.0), ("temperature", -1.0), ("temperature", math.inf),
    ("temperature", math.nan), ("threads", 0), ("device", "gpu"), ("model", "predict"),
    ("backend", "nmpy"),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), BAD)
def test_options_that_cannot_be(small, option, value):
    with pytest.raises(RNNScratchError) as caught:
        rnn_scratch.predict(small, "the ", **{option: value})
    assert str(value) in str(caught.value)
    assert option in str(caught.value)


def test_weights_that_overflow_are_no_matter_for_warnings(small, backend_name):
    saved = checkpoint.load(checkpoint.find(small.folder))
    huge = {name: np.full_like(array, 3e38) for name, array in saved.arrays.items()}
    settings = checkpoint.Settings(**SETTINGS, activation="relu")
    checkpoint.save(checkpoint.find(small.folder), saved._replace(arrays=huge, settings=settings))
    with np.errstate(all="raise"):
        text = rnn_scratch.predict(small, "the ", 5, backend=backend_name, temperature=1.0)
        found = rnn_scratch.evaluate(small, corpus="tide-clock", backend=backend_name)
    assert text.startswith("the ")
    assert found.perplexity is None


def by_hand(text):
    counts = Counter(text)
    return math.exp(-sum(n / len(text) * math.log(n / len(text)) for n in counts.values()))


def test_baselines_by_hand(small, tmp_path):
    (tmp_path / "t.txt").write_text("Aab!\nc aab\n")
    found = rnn_scratch.evaluate(small, text="t.txt")
    # Normalised as the run's text was, "aabc aab": a 4/8, b 2/8, c 1/8, space 1/8.
    assert found.unigram == pytest.approx(2**1.75)
    assert found.unigram == pytest.approx(by_hand("aabc aab"))
    assert found.uniform == 28
    assert found.tokens == 7
    assert found.skipped == 0


def test_what_an_untrained_model_knows_is_nothing(backend_name, tmp_path):
    # Starting values so small that all characters are alike to it: the uniform perplexity.
    run = rnn_scratch.train(backend_name, num_epochs=1, lr=1e-9, sigma=1e-6, **SMALL)
    found = rnn_scratch.evaluate(run, corpus="tide-clock")
    assert found.perplexity == pytest.approx(28, rel=1e-4)


def test_perplexity_is_that_of_the_model_step_by_step(backend, backend_name, tmp_path):
    run = rnn_scratch.train(
        backend_name, num_epochs=5, dtype="float64", **{**SMALL, "batch_size": 1}
    )
    text = "the tide clock and the iron key"
    (tmp_path / "t.txt").write_text(text)
    found = rnn_scratch.evaluate(run, text="t.txt")

    p, H, loss = run.arrays, np.zeros(SETTINGS["num_hiddens"]), 0.0
    tokens = vocabulary.encode(text, run.vocab)
    for now, following in itertools.pairwise(tokens):
        H = np.tanh(p["W_xh"][now] + H @ p["W_hh"] + p["b_h"])
        logits = H @ p["W_hq"] + p["b_q"]
        loss += np.log(np.exp(logits).sum()) - logits[following]
    assert found.tokens == len(text) - 1
    assert found.perplexity == pytest.approx(np.exp(loss / found.tokens), rel=1e-9)


def test_skipped_characters_are_counted(tmp_path):
    run = rnn_scratch.train("numpy", num_epochs=1, normalize="none", **SMALL)
    (tmp_path / "t.txt").write_text("the 猫 and the 犬")
    with pytest.raises(RNNScratchError, match=r"'犬' \(U\+72AC\), '猫' \(U\+732B\)"):
        rnn_scratch.evaluate(run, text="t.txt")
    found = rnn_scratch.evaluate(run, text="t.txt", unknown="skip")
    assert (found.tokens, found.skipped) == (len("the  and the ") - 1, 2)


@pytest.mark.parametrize("text", ["a", "1 2 3 b 4"])
def test_a_text_too_short_to_measure(small, tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(RNNScratchError, match="has 1 characters that the model knows"):
        rnn_scratch.evaluate(small, text="t.txt")


def test_one_text_at_a_time(small):
    with pytest.raises(RNNScratchError, match=r"Both --corpus tide-clock and --text t.txt"):
        rnn_scratch.evaluate(small, corpus="tide-clock", text="t.txt")


def test_the_time_machine_by_default(book, small):
    found = rnn_scratch.evaluate(small)
    assert found.tokens == 170_579 - 170_579 % 4
    text = vocabulary.normalize(corpus.load("time-machine", print).content, "chapter")
    assert found.unigram == pytest.approx(by_hand(text))
