"""The Python interface: numbers and paths of other types, and errors that name the argument."""

import inspect
import re
import sys
import types
from io import BytesIO
from pathlib import Path
from typing import get_type_hints
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from helpers import SMALL, epoch_row, error_of

import rnn_scratch
from rnn_scratch import api, registry
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import curve, notebook_card
from rnn_scratch.runs.events import Report
from rnn_scratch.runs.notebook_card import displayed
from rnn_scratch.settings import SETTINGS, Settings, SettingsDict
from rnn_scratch.text import books
from rnn_scratch.workers.launch import Launch

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
    how = {"threads": np.int8(1), "workers": Launch(np.int64(1), wait=60.0), "report": Report()}
    again = rnn_scratch.resume(Path("one"), np.uint8(2), **how)
    assert [row.epoch for row in again.history] == [1, 2]
    for form in (again, "one", Path("one"), OtherPath("one")):
        text = rnn_scratch.predict(
            form, "the ", np.int64(5), temperature=np.float32(1), seed=np.int8(3)
        )
        assert text == rnn_scratch.predict("one", "the ", 5, temperature=1, seed=3)
    for form in ("story.txt", story, OtherPath("story.txt")):
        result = rnn_scratch.evaluate(run, text=form, unknown="skip", threads=np.int64(1))
        assert result == rnn_scratch.evaluate("one", text="story.txt", unknown="skip")


# Arguments of each function that are right, and what some must not be, besides an object.
CALLS = {
    "train": {"backend": "numpy", "corpus": "tide-clock"},
    "resume": {"run": "no-run", "num_epochs": 2},
    "evaluate": {"run": "no-run"},
    "predict": {"run": "no-run"},
}
LAUNCHES = Launch(0), Launch(-2), Launch("2"), Launch(2, 2), Launch(2, 0, 5), Launch(2, 0, wait=0)
WRONG = {"run": [3, b"r", True], "report": [3, "print", Report], "threads": ["2"]}
WRONG |= {"stream": ["print"], "workers": [0, *LAUNCHES], "color": [3]}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments(name, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: pytest.fail("too late"))
    function = getattr(rnn_scratch, name)
    *named, _ = inspect.signature(function).parameters
    runtime = ("model", "backend", "device", "threads", "eager", "workers")
    for argument in {*named, *(SETTINGS if name == "train" else runtime), "color"}:
        for value in (object(), *WRONG.get(argument, ())):
            rest = {"backend": "numpy"} if argument == "text" and name == "train" else CALLS[name]
            message = error_of(function, **{**rest, argument: value})
            expected = (f"`{argument}` must be ", f"Unknown argument: {argument}.")
            assert message.startswith(expected)
    assert "`run` must be " in error_of(rnn_scratch.train, **CALLS["train"], run="nul\0")
    assert not Path("runs").exists()


def test_errors_name_arguments_and_their_values():
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    for call, words in (
        (lambda: rnn_scratch.train("numpy", patience=3, **SMALL), "`valid_share=0.1`"),
        (lambda: rnn_scratch.train("numpy", num_layers=0), "`num_layers` must be an integer"),
        (lambda: rnn_scratch.resume(run, 2, num_hiddens=3), "num_hiddens: 12 before, 3 now"),
        (lambda: rnn_scratch.resume(run, None), "`num_epochs` must be "),
        (lambda: rnn_scratch.evaluate(run, text="a", corpus="b"), "`corpus='b'` and `text=a`"),
        (lambda: rnn_scratch.predict(run, "é"), "`unknown='skip'`"),
        (lambda: rnn_scratch.predict(run, best=True), "Omit `best`"),
    ):
        message = error_of(call)
        assert words in message
        assert "--" not in message
    command = "To make one: rnn-scratch train --epochs 3"
    assert api.in_python(f"`--theta none`\n{command}") == f"`theta=None`\n{command}"


def test_the_package_lists_what_it_offers():
    assert {"Report", "RNNScratchError", "train"} <= {*dir(rnn_scratch)} == {*rnn_scratch.__all__}
    assert all(getattr(rnn_scratch, name).__doc__ for name in rnn_scratch.__all__)


def test_editors_and_type_checkers_know_every_setting():
    assert get_type_hints(SettingsDict) == get_type_hints(Settings)


@pytest.fixture
def no_books(monkeypatch):
    """No book is there, nor can it be downloaded."""

    def unavailable(book):
        raise RNNScratchError("No network.")

    monkeypatch.setattr(books, "_book", unavailable)


def test_a_report_may_be_a_function(no_books):
    lines, small = [], {**SMALL, "threads": 1}
    run = rnn_scratch.train("numpy", num_epochs=12, run="r", report=lines.append, **small)
    start, tenth, last, results = lines
    assert start == "numpy (scratch) on cpu, threads: 1, epochs 1 to 12, run folder: r"
    assert re.fullmatch(r"epoch 10  perplexity .*'", tenth)
    assert tenth.endswith(repr(run.history[9].sample))
    assert last.startswith("epoch 12: ")
    assert results.endswith(f", perplexity {run.perplexity:.2f}")
    rnn_scratch.resume(run, 13, report=lines.append)
    assert "epochs 13 to 13" in lines[4]
    assert lines[5].startswith("epoch 13: ")
    settings = {name: value for name, value in small.items() if name != "corpus"}
    rnn_scratch.train("numpy", num_epochs=1, report=lines.append, **settings)
    assert lines[7] == "No network. Using the built-in text tide-clock instead."
    rnn_scratch.train("numpy", num_epochs=1, exact=True, lr=1e-9, report=lines.append, **SMALL)
    assert any(line.endswith("Use a larger `lr`.") for line in lines)


def test_progress_is_printed_where_somebody_is_at_the_prompt(monkeypatch, capsys, no_books):
    rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # as Python sets it for its prompt
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert f"epochs 1 to 1, run folder: {run.folder}\nepoch 1: " in capsys.readouterr().out
    rnn_scratch.evaluate(run)
    assert capsys.readouterr().out == ""


def test_a_run_in_one_line():
    run = rnn_scratch.train("numpy", num_epochs=2, run="r", **SMALL)
    assert str(run) == repr(run) == f"<Run r: 2 epochs, perplexity {run.perplexity:.2f}>"
    run = rnn_scratch.train("numpy", num_epochs=1, run="s", valid_tokens=60, **SMALL)
    held_out = run.history[0].valid_perplexity
    expected = f"<Run s: 1 epoch, perplexity {run.perplexity:.2f} (held out {held_out:.2f})>"
    assert repr(run) == expected


# The curve of a run, and the card with it that a notebook shows, in training and afterwards.


@pytest.fixture
def kernel(monkeypatch):
    """IPython as it is in the kernel of a notebook, with the states that it has displayed."""
    here = types.SimpleNamespace(kernel=object(), execution_count=1, states=[])

    def display(data, raw, display_id):
        assert (raw, display_id, here.states) == (True, True, [])
        here.states.append(data)
        return types.SimpleNamespace(update=lambda data, raw: here.states.append(data))

    displays = types.SimpleNamespace(display=display)
    parts = {"get_ipython": lambda: here, "display": displays, "version_info": (9, 0)}
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(**parts))
    monkeypatch.setattr(notebook_card, "EVERY", 0.0)
    displayed.clear()
    return here


def test_one_card_grows_and_ends_as_that_of_the_run(kernel):
    run = rnn_scratch.train("numpy", num_epochs=11, **SMALL)
    first, *within, last = kernel.states
    assert first["text/plain"] == "epoch 1 of 11"
    assert any(re.search(r"time left \d:\d\d:\d\d", each["text/html"]) for each in within)
    assert run.history[9].sample in within[-1]["text/html"]
    assert len({state["text/html"].split("base64,")[1][:9999] for state in within}) == 11
    assert last["text/html"] == run._repr_html_()
    assert last["text/plain"] in repr(run)
    assert "time left" not in last["text/html"]
    assert run._ipython_display_() is None, "it is there already"
    kernel.execution_count += 1
    with pytest.raises(NotImplementedError):  # IPython goes on to the other forms
        run._ipython_display_()


def test_a_resumed_run_s_curve_has_all_its_epochs(kernel):
    run = rnn_scratch.train("numpy", num_epochs=2, report=lambda line: None, **SMALL)
    assert kernel.states == [], "what was asked for, and nothing else"
    rnn_scratch.resume(run, 3)
    assert run._repr_html_().split("base64,")[1][:9999] in kernel.states[0]["text/html"]


def test_an_interruption_says_how_to_go_on(kernel):
    class Interrupted(notebook_card.Live):
        def epoch(self, epoch):
            super().epoch(epoch)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rnn_scratch.train("numpy", num_epochs=3, run="a", report=Interrupted(print), **SMALL)
    assert kernel.states[-1]["text/plain"].startswith("1 epoch, perplexity ")
    assert kernel.states[-1]["text/plain"].endswith("; to go on: rnn_scratch.resume('a', 3)")


def test_in_a_terminal_nothing_is_displayed(kernel):
    del kernel.kernel  # as in IPython's own shell
    rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert kernel.states == []


def test_the_card_of_a_run_depends_on_no_clock():
    settings = {"num_epochs": 3, "valid_tokens": 60, "threads": 1, **SMALL}
    one, two = (rnn_scratch.train("numpy", run=name, **settings) for name in ("one", "two"))
    assert one._repr_html_() == two._repr_html_().replace(">two<", ">one<")
    for text in one.record.sessions[0].predictions:
        assert text in one._repr_html_()


def test_text_is_not_taken_for_html():
    run = rnn_scratch.train("numpy", num_epochs=1, run="<u>", **SMALL)
    run.record.sessions[-1].predictions = ["<i> & so on"]
    texts = list(ElementTree.fromstring(run._repr_html_()).itertext())
    assert [text for text in texts if "<" in text] == ["<i> & so on", "<u>"]


def image(*perplexities, **row):
    """The picture of epochs with these perplexities: heights, widths, and four colors each."""
    rows = [epoch_row(n, perplexity=p, **row) for n, p in enumerate(perplexities, 1)]
    return matplotlib.image.imread(BytesIO(curve.picture({"numpy": rows})))


def test_the_picture_suits_light_and_dark_pages_and_shows_what_there_is():
    empty, one, two = image(), image(20.0, 3.0, 2.0), image(20.0, 3.0, 2.0, valid_perplexity=9.0)
    for picture in (empty, one, two):
        assert picture[0, 0, 3] == picture[100, 400, 3] == 0, "nothing is behind the curve"
        grey = picture[..., :3][(np.ptp(picture[..., :3], axis=2) == 0) & (picture[..., 3] == 1)]
        assert np.unique(grey) == pytest.approx(int(curve.INK[1:3], 16) / 255, abs=0.01)
    blue = [int((np.ptp(picture[..., :3], axis=2) > 0.3).sum()) for picture in (empty, one, two)]
    assert 0 == blue[0] < blue[1] < blue[2]


@pytest.mark.parametrize("perplexities", [(None, 3.0), (1e299, 3.0, 2.0), (1.0, 1.0), (None,)])
def test_any_perplexities_can_be_drawn(perplexities, recwarn):
    drawn = image(*perplexities, valid_perplexity=2.5)
    assert (np.ptp(drawn[..., :3], axis=2) > 0.3).any()
    assert not recwarn.list
