"""Inference from Python: text generation and evaluation with a trained model."""

from pathlib import Path

import numpy as np
import pytest
from helpers import SETTINGS, SMALL, raised_message, run_in_process
from msgspec.structs import replace

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import ModelConfig
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset

TEXT = "abcd " * 60
BEGINNING = books.load("tide-clock").content[:1000]


@pytest.fixture
def story(tmp_path):
    """Write a short English text that is quick to evaluate; return its file name."""
    (tmp_path / "story.txt").write_text(BEGINNING)
    return "story.txt"


@pytest.fixture
def parrot(backend_name, tmp_path):
    """Return a run whose model has memorized TEXT."""
    (tmp_path / "parrot.txt").write_text(TEXT)
    return rnn_scratch.train(
        backend_name,
        text="parrot.txt",
        normalize="none",
        num_epochs=25,
        num_hiddens=16,
        num_steps=5,
        batch_size=4,
        sigma=0.1,
    )


def test_run_is_resumed_predicts_and_is_evaluated(backend_name, device, story):
    run = rnn_scratch.train(backend_name, num_epochs=3, device=device, **SMALL)
    assert run.perplexity == run.history[-1].perplexity < 28
    assert list(run.arrays) == list(ModelConfig(28, 12).shapes())
    again = rnn_scratch.resume(run, 6)
    assert again.perplexity < run.perplexity
    for form in (again, again.folder, str(again.folder), again.folder / checkpoint.FILE):
        text = rnn_scratch.predict(form, "the clock ", 20, device=device)
        assert len(text) == 30
        assert text.startswith("the clock ")
    result = rnn_scratch.evaluate(again, text=story, device=device)
    assert result.perplexity < result.unigram_perplexity < result.uniform_perplexity == 28


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_memorized_text_is_predicted(parrot):
    assert rnn_scratch.predict(parrot, "ab", 23) == (TEXT * 2)[:25]
    pieces = []
    assert rnn_scratch.predict(parrot, "d", 1, stream=pieces.append) == "d "
    assert pieces == ["d", " "]
    assert len(rnn_scratch.predict(parrot, "a")) == 51
    # The state is warmed up on the whole prefix, not just its last character.
    assert rnn_scratch.predict(parrot, "cd abc", 4) == "cd abcd ab"
    result = rnn_scratch.evaluate(parrot, text="parrot.txt")
    assert 1 <= result.perplexity < 1.5
    assert result.unigram_perplexity == pytest.approx(5)
    assert (result.uniform_perplexity, result.num_skipped) == (6, 0)
    assert len(TEXT) - 4 <= result.num_tokens < len(TEXT)


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_unknown_characters_are_refused_or_skipped(capsys, parrot, tmp_path):
    assert "lacks these characters: 'Ex'" in raised_message(rnn_scratch.predict, parrot, "abEx", 5)
    assert rnn_scratch.predict(parrot, "aEbx", 3, unknown="skip") == "abcd "
    (tmp_path / "t.txt").write_text("ab \u732bcd \u72ac")
    with pytest.raises(RNNScratchError, match="lacks these characters"):
        rnn_scratch.evaluate(parrot, text="t.txt")
    result = rnn_scratch.evaluate(parrot, text="t.txt", unknown="skip")
    assert (result.num_tokens, result.num_skipped) == (len("ab cd ") - 1, 2)
    arguments = (parrot.folder, "--text", "t.txt", "--unknown", "skip")
    out = run_in_process(capsys, "evaluate", *arguments).out
    assert "on 5 characters (unknown characters skipped: 2)\n" in out


def test_checkpoint_file_suffices_for_inference(small_run):
    """Predict and evaluate from a checkpoint file alone, by default with the backend it names."""
    text, result = rnn_scratch.predict(small_run, "the ", 8), rnn_scratch.evaluate(small_run)
    assert result.num_tokens == 396
    assert result.source == "the first 400 characters of tide-clock (training text)"
    saved = checkpoint.load(small_run)
    checkpoint.save(Path(checkpoint.FILE), saved)
    assert rnn_scratch.predict(checkpoint.FILE, "the ", 8) == text
    assert rnn_scratch.evaluate(checkpoint.FILE) == result
    saved.runtime = replace(saved.runtime, backend="absent")
    checkpoint.save(Path(checkpoint.FILE), saved)
    assert rnn_scratch.predict(checkpoint.FILE, "the ", 8, backend="numpy") == text
    assert "absent" in raised_message(rnn_scratch.predict, checkpoint.FILE)


def test_network_predicts_and_evaluates_with_one_backend(backend_name, monkeypatch):
    settings = {**SMALL, "valid_tokens": 100, "cell": "gru-after"}
    run = rnn_scratch.train(backend_name, num_epochs=3, **settings)
    calls, start = [], registry.start
    monkeypatch.setattr(registry, "start", lambda *args: calls.append(args) or start(*args))
    net = rnn_scratch.load("last", best=True)
    text, result = net.predict("the ", 20, temperature=0.5), net.evaluate()
    assert [name for name, _ in calls] == [backend_name]
    assert text == rnn_scratch.predict(run, "the ", 20, temperature=0.5, best=True)
    assert result == rnn_scratch.evaluate(run, best=True)
    assert result.held_out.loss == pytest.approx(run.best.valid_loss, rel=1e-6)
    assert str(result).count("\ntext  ") == 2
    saved = checkpoint.load(run.folder)
    assert list(net.params) == list(saved.best)
    assert all(np.array_equal(net.params[name], saved.best[name]) for name in saved.best)
    network = "gru-after, 12 hidden units"
    assert (
        repr(net)
        == f"<Network {run.folder}: {network}, {result.trained}, {backend_name} (scratch)>"
    )


def test_run_of_a_missing_backend_can_use_another(small_run, capsys):
    saved = checkpoint.load(small_run)
    saved.runtime = replace(saved.runtime, backend="absent")
    checkpoint.save(small_run / checkpoint.FILE, saved)
    message = raised_message(rnn_scratch.load, small_run)
    assert message.startswith("Unknown backend 'absent'.\nTo use another backend,")
    result = run_in_process(capsys, "predict", small_run)
    result.assert_error("another backend, pass `--backend numpy`. The backends are: numpy, ")
    record = (small_run / "run.json").read_text(encoding="utf-8")
    record = record.replace('"backend": "numpy"', '"backend": "absent"')
    (small_run / "run.json").write_text(record, encoding="utf-8")
    result = run_in_process(capsys, "train", "--resume", small_run, "--epochs", 3)
    result.assert_error("another backend, pass `--backend numpy`. The backends are: numpy, ")
    assert rnn_scratch.load(small_run, backend="numpy").predict()


@pytest.mark.parametrize(("prefix", "unknown"), [("", "error"), ("", "skip"), ("XYZ", "skip")])
def test_empty_prefix_is_refused(small_run, prefix, unknown):
    message = raised_message(rnn_scratch.predict, small_run, prefix, unknown=unknown)
    assert "The prefix is empty" in message


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_weights_that_overflow_cause_no_warnings(small_run, backend_name, story, capsys):
    saved = checkpoint.load(small_run)
    huge = {name: np.full_like(array, 3e38) for name, array in saved.arrays.items()}
    settings = checkpoint.Settings(**SETTINGS, cell="rnn-relu")
    saved = replace(saved, arrays=huge, settings=settings)
    checkpoint.save(small_run / checkpoint.FILE, saved)
    with np.errstate(all="raise"):
        text = rnn_scratch.predict(small_run, "the ", 5, backend=backend_name, temperature=1.0)
        result = rnn_scratch.evaluate(small_run, text=story, backend=backend_name)
    assert text.startswith("the ")
    assert result.perplexity is None
    run_in_process(capsys, "evaluate", small_run, "--backend", backend_name).assert_exit(err="")


def test_baselines_match_hand_computed_values(small_run, tmp_path):
    (tmp_path / "t.txt").write_text("Aab!\nc aab\n")
    result = rnn_scratch.evaluate(small_run, text="t.txt")
    # Normalized like the run's text: "aabc aab". Frequencies: a 4/8, b 2/8, c 1/8, space 1/8.
    assert result.unigram_perplexity == pytest.approx(2**1.75)
    assert (result.uniform_perplexity, result.num_tokens, result.num_skipped) == (28, 7, 0)


def test_too_short_text_is_refused(small_run, tmp_path):
    (tmp_path / "t.txt").write_text("1 2 3 b 4")
    message = raised_message(rnn_scratch.evaluate, small_run, text="t.txt")
    assert "has too few known characters (1)" in message


def test_evaluation_refuses_a_changed_text():
    Path("t.txt").write_text("the clock and the tide. " * 60)
    run = rnn_scratch.train("numpy", text="t.txt", num_epochs=1, **SETTINGS)
    assert rnn_scratch.evaluate(run).source.endswith("t.txt (training text)")
    Path("t.txt").write_text("the tide and the clock. " * 60)
    assert "has changed since the run was started" in raised_message(rnn_scratch.evaluate, run)
    assert rnn_scratch.evaluate(run, text="t.txt").source == str(Path("t.txt").absolute())


@pytest.mark.parametrize(
    ("content", "normalize", "expected"),
    [
        (
            "Title\n\n" + "A first line that is long enough to be prose.\n" * 9,
            "chapter",
            "a first line that is ",
        ),
        ("Short\nlines\n" * 20, "none", "Short"),
        ("猫" * 200, "none", "猫" * 21),
        ("   \n" * 2000 + "x" * 50, "none", " "),
    ],
)
def test_beginning_of_a_text_is_a_prefix(content, normalize, expected):
    settings = Settings(batch_size=2, num_steps=2, normalize=normalize)
    data = dataset.prepare(books.Text("file", "t.txt", content, ""), settings)
    assert data.beginning == expected
    assert set(expected) <= set(data.vocab)


GREEK = "η μηχανή του χρόνου. " * 40


def test_default_prefix_is_in_the_vocabulary(tmp_path):
    (tmp_path / "greek.txt").write_text(GREEK, encoding="utf-8")
    settings = {**SETTINGS, "normalize": "none", "num_epochs": 10}
    greek = rnn_scratch.train("numpy", text="greek.txt", **settings)
    (tmp_path / "greek.txt").unlink()  # prediction does not need the text
    sample, predictions = greek.history[-1].sample, greek.record.sessions[-1].predictions
    assert [sample] == predictions
    assert (
        rnn_scratch.predict(greek) == rnn_scratch.predict(greek, "η μηχανή του χρόνου. ") == sample
    )
