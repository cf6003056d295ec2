"""The Python interface: numbers and paths of other types, and errors that name the argument."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.runs.training import Report
from rnn_scratch.settings import SETTINGS, option_of
from rnn_scratch.text import corpus

STORY = "A traveller spoke of a clock. Nobody believed him.\n" * 40
NUMPY = {name: np.int64(v) if isinstance(v, int) else np.str_(v) for name, v in SMALL.items()}


class OtherPath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


def test_numbers_of_numpy_and_every_kind_of_path():
    story = Path("story.txt")
    story.write_text(STORY)
    run = rnn_scratch.train(
        np.str_("numpy"),
        num_epochs=np.int32(1),
        lr=np.float32(1),
        threads=np.int16(1),
        eager=np.bool_(False),
        run=OtherPath("one"),
        **NUMPY,
    )
    again = rnn_scratch.resume(Path("one"), np.uint8(2), threads=np.int8(1), report=Report())
    assert [row.epoch for row in again.history] == [1, 2]
    for form in (again, "one", Path("one"), OtherPath("one")):
        text = rnn_scratch.predict(
            form, "the ", np.int64(5), temperature=np.float32(1), seed=np.int8(3)
        )
        assert text == rnn_scratch.predict("one", "the ", 5, temperature=1, seed=3)
    for form in ("story.txt", story, OtherPath("story.txt")):
        result = rnn_scratch.evaluate(run, text=form, unknown="skip", threads=np.int64(1))
        assert result == rnn_scratch.evaluate("one", text="story.txt", unknown="skip")


# The arguments of two functions, and what some of them must not be, besides an object.
TRAIN = ("backend", "corpus", "text", "model", "device", "threads", "eager", "workers", "patience")
TRAIN += ("run", "report", *SETTINGS)
PREDICT = ("run", "model", "prefix", "length", "temperature", "top_k", "top_p", "min_p", "seed")
PREDICT += ("unknown", "backend", "threads", "workers", "best", "colour")
WRONG = {"run": [3, b"r", True], "report": [3, "print", Report], "threads": ["2"]}


def names(name, error):
    """Whether an error begins with the name of the argument, in Python or as an option."""
    words = (f"{name} is ", f"{option_of(name)} is ", f"Unknown argument: {name}")
    return str(error).startswith(words)


def refused(function, arguments, name):
    """Check that the function refuses these arguments because of the one with this name."""
    with pytest.raises(RNNScratchError) as raised:
        function(**arguments)
    assert names(name, raised.value), raised.value


def test_wrong_arguments(monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: pytest.fail("too late"))
    whole = {"backend": "numpy", "corpus": "tide-clock"}
    for name in TRAIN:
        for value in (object(), *WRONG.get(name, ())):
            rest = {} if name == "text" else whole
            refused(rnn_scratch.train, {"backend": "numpy", **rest, name: value}, name)
    refused(rnn_scratch.train, {**whole, "run": "nul\0"}, "run")
    assert not Path("runs").exists()
    for name in PREDICT:
        for value in (object(), *WRONG.get(name, ())):
            refused(rnn_scratch.predict, {"run": "no-run", name: value}, name)


def test_the_package_lists_its_functions():
    assert dir(rnn_scratch) == ["RNNScratchError", "evaluate", "predict", "resume", "train"]


@pytest.fixture
def no_books(monkeypatch):
    """No book is there, nor can it be downloaded."""

    def unavailable(book):
        raise RNNScratchError("No network.")

    monkeypatch.setattr(corpus, "_book", unavailable)


def test_a_report_may_be_a_function(no_books):
    lines, small = [], {**SMALL, "threads": 1}
    run = rnn_scratch.train("numpy", num_epochs=12, run="r", report=lines.append, **small)
    assert [line.split("  ")[0] for line in lines] == [
        "numpy (scratch) on cpu, threads: 1, epochs 1 to 12, run folder: r",
        "epoch 10",
        "epoch 12",
    ]
    assert lines[1].endswith(repr(run.history[9].sample))
    assert f"  perplexity {run.perplexity:.2f}  " in lines[2]
    rnn_scratch.resume(run, 13, report=lines.append)
    assert "epochs 13 to 13" in lines[3]
    assert lines[4].startswith("epoch 13  perplexity")
    settings = {name: each for name, each in small.items() if name != "corpus"}
    rnn_scratch.train("numpy", num_epochs=1, report=lines.append, **settings)
    assert lines[5] == "No network. The built-in text tide-clock is used instead."


def test_progress_is_printed_where_somebody_is_at_the_prompt(monkeypatch, capsys, no_books):
    rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # as Python sets it for its prompt
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert f"epochs 1 to 1, run folder: {run.folder}\nepoch 1  " in capsys.readouterr().out
    rnn_scratch.evaluate(run)
    assert capsys.readouterr().out == ""


def test_a_run_in_one_line():
    run = rnn_scratch.train("numpy", num_epochs=2, run="r", **SMALL)
    assert str(run) == repr(run) == f"<Run r: 2 epochs, perplexity {run.perplexity:.2f}>"
    run = rnn_scratch.train("numpy", num_epochs=1, run="s", valid_tokens=60, **SMALL)
    held_out = run.history[0].valid_perplexity
    expected = f"<Run s: 1 epoch, perplexity {run.perplexity:.2f} (held out {held_out:.2f})>"
    assert repr(run) == expected


def test_arguments_of_resume_and_evaluate():
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    for name in ("text", "threads", "report", "backend", "eager"):
        refused(rnn_scratch.resume, {"run": run, "num_epochs": 2, name: 3.5}, name)
        if name != "report":
            refused(rnn_scratch.evaluate, {"run": run, name: 3.5}, name)
    with pytest.raises(RNNScratchError, match=r"^--epochs is "):
        rnn_scratch.resume(run, None)
