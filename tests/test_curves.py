"""The curve of a run, and the card with it that a notebook shows, in training and afterwards."""

import sys
import types
from io import BytesIO
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from helpers import SMALL, epoch_row

import rnn_scratch
from rnn_scratch.runs import curve
from rnn_scratch.runs import run as run_module
from rnn_scratch.runs.run import shown


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
    monkeypatch.setattr(run_module, "EVERY", 0.0)
    shown.clear()
    return here


def test_one_card_grows_and_ends_as_that_of_the_run(kernel):
    run = rnn_scratch.train("numpy", num_epochs=11, **SMALL)
    first, *within, stopped, last = kernel.states
    assert first["text/plain"] == "epoch 1 of 11"
    assert any("time left 0:00:0" in state["text/html"] for state in within)
    assert run.history[9].sample in within[-1]["text/html"]
    assert len({state["text/html"].split("base64,")[1][:9999] for state in within}) == 11
    assert last == {"text/html": run._repr_html_(), "text/plain": repr(run)}
    assert "time left" not in stopped["text/html"] + last["text/html"]
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
    class Interrupted(run_module.Live):
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
    for each in (empty, one, two):
        assert each[0, 0, 3] == each[100, 400, 3] == 0, "nothing is behind the curve"
        grey = each[..., :3][(np.ptp(each[..., :3], axis=2) == 0) & (each[..., 3] == 1)]
        assert np.unique(grey) == pytest.approx(int(curve.INK[1:3], 16) / 255, abs=0.01)
    blue = [int((np.ptp(each[..., :3], axis=2) > 0.3).sum()) for each in (empty, one, two)]
    assert 0 == blue[0] < blue[1] < blue[2]


@pytest.mark.parametrize("perplexities", [(None, 3.0), (1e299, 3.0, 2.0), (1.0, 1.0), (None,)])
def test_any_perplexities_can_be_drawn(perplexities, recwarn):
    drawn = image(*perplexities, valid_perplexity=2.5)
    assert (np.ptp(drawn[..., :3], axis=2) > 0.3).any()
    assert not recwarn.list
