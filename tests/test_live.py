"""Training in a notebook: one card that grows, and stays; and the card of a run."""

import base64
import sys
import time
import types
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from helpers import SMALL, epoch_row

import rnn_scratch
from rnn_scratch.runs import curve, notebook, progress, training


@pytest.fixture
def kernel(monkeypatch):
    """IPython as it is in the kernel of a notebook, with the states that it has displayed."""
    here = types.SimpleNamespace(kernel=object(), execution_count=1, displays=0, states=[])

    def display(data, raw, display_id):
        assert raw
        assert display_id
        here.displays += 1
        here.states.append(data)
        return types.SimpleNamespace(update=lambda data, raw: here.states.append(data))

    parts = {
        "get_ipython": lambda: here,
        "display": types.SimpleNamespace(display=display),
        "version_info": (9, 0),  # which matplotlib looks at
    }
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(**parts))
    monkeypatch.setattr(notebook, "shown", {})
    return here


class Clock(notebook.Live):
    """The card, on a clock on which an epoch takes half a second, and nothing else any."""

    def __init__(self, monkeypatch):
        self.time = 100.0
        for module in (notebook, training):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self):
        return self.time

    perf_counter = staticmethod(time.perf_counter)

    def epoch(self, epoch):
        self.time += 1 / 2
        super().epoch(epoch)


def picture(history, last):
    return base64.b64encode(curve.picture({"numpy": history}, last=last)).decode()


def test_the_card_is_drawn_every_two_seconds_and_ends_as_that_of_the_run(kernel, monkeypatch):
    run = rnn_scratch.train("numpy", num_epochs=21, report=Clock(monkeypatch), **SMALL)
    assert kernel.displays == 1
    first, *within, stopped, last = kernel.states
    assert first["text/plain"] == "epoch 1 of 21"
    # What there is after the fourth epoch, at whose beginning 18 of 21 were left.
    assert [state["text/plain"].split("  ")[0] for state in within] == [
        f"epoch {epoch} of 21, time left 0:00:0{left}"
        for epoch, left in [(4, 9), (8, 7), (12, 5), (16, 3), (20, 1)]
    ]
    for state, epoch in zip(within, (4, 8, 12, 16, 20)):
        assert progress.numbers(run.history[epoch - 1]) in state["text/html"]
        assert picture(run.history[:epoch], 21) in state["text/html"]
        assert f'value="{epoch / 21:.3f}"' in state["text/html"]
        sample = run.history[epoch // 10 * 10 - 1].sample if epoch >= 10 else ""
        assert f">{sample}</pre>" in state["text/html"]
    assert last == {"text/html": run._repr_html_(), "text/plain": repr(run)}
    for state in (stopped, last):
        assert "time left" not in state["text/html"]
        assert "<progress" not in state["text/html"]


def test_a_resumed_run_s_curve_has_all_its_epochs(kernel):
    run = rnn_scratch.train("numpy", num_epochs=3, report=lambda line: None, **SMALL)
    assert kernel.states == []  # what was asked for, and nothing else
    more = rnn_scratch.resume(run, 5)
    assert picture(run.history, 5) in kernel.states[0]["text/html"]
    assert kernel.states[-1] == {"text/html": more._repr_html_(), "text/plain": repr(more)}
    assert kernel.displays == 1


def test_progress_within_a_long_epoch(kernel, monkeypatch):
    monkeypatch.setattr(notebook, "EVERY", 0.0)
    rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert any(
        "epoch 1 of 1, time left 0:00:0" in state["text/html"]
        and "so far" in state["text/html"]
        and 'value="0.000"' not in state["text/html"]
        for state in kernel.states[1:-2]
    )


def test_in_a_terminal_nothing_is_displayed(kernel):
    del kernel.kernel  # as in IPython's own shell
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert kernel.states == []
    with pytest.raises(NotImplementedError):
        run._ipython_display_()


def test_the_card_of_a_run_depends_on_no_clock():
    settings = {"num_epochs": 3, "valid_tokens": 60, "threads": 1, **SMALL}
    one, two = (rnn_scratch.train("numpy", run=name, **settings) for name in ("one", "two"))
    assert one._repr_html_() == two._repr_html_().replace(">two<", ">one<")
    for text in one.record.sessions[0].predictions:
        assert text in one._repr_html_()


def test_text_is_not_taken_for_html():
    page = notebook.card("<a>", ["<b>"], ["<i> & so on"], Path("<u>"), b"", 0.5)
    texts = list(ElementTree.fromstring(page).itertext())
    assert [text for text in texts if "<" in text] == ["<a>", "<b>", "<i> & so on", "<u>"]


def image(*perplexities, last=4, **row):
    """The picture of epochs with these perplexities: heights, widths, and four colors each."""
    rows = [epoch_row(n, perplexity=p, **row) for n, p in enumerate(perplexities, 1)]
    return matplotlib.image.imread(BytesIO(curve.picture({"numpy": rows}, last=last)))


def test_the_picture_suits_light_and_dark_pages_and_shows_what_there_is():
    empty, one, two = image(), image(20.0, 3.0, 2.0), image(20.0, 3.0, 2.0, valid_perplexity=9.0)
    for each in (empty, one, two):
        assert each[0, 0, 3] == each[100, 400, 3] == 0, "nothing is behind the curve"
        grey = each[..., :3][(np.ptp(each[..., :3], axis=2) == 0) & (each[..., 3] == 1)]
        assert np.unique(grey) == pytest.approx(int(curve.INK[1:3], 16) / 255, abs=0.01)
    blue = [int((np.ptp(each[..., :3], axis=2) > 0.3).sum()) for each in (empty, one, two)]
    assert 0 == blue[0] < blue[1] < blue[2]
    assert not np.array_equal(one, image(20.0, 3.0, 2.0, last=400))


@pytest.mark.parametrize("perplexities", [(None, 3.0), (1e299, 3.0, 2.0), (1.0, 1.0), (None,)])
def test_any_perplexities_can_be_drawn(perplexities, recwarn):
    drawn = image(*perplexities, valid_perplexity=2.5)
    assert (np.ptp(drawn[..., :3], axis=2) > 0.3).any()
    assert not recwarn.list


CELLS = [
    """
import os, signal
import rnn_scratch
from rnn_scratch.runs import training

settings = {settings}
run = rnn_scratch.train("numpy", num_epochs=12, run="one", **settings)
run
""",
    "run",
    "rnn_scratch.resume(run, 14, report=print)",
    """
predictions = training.predictions

def interrupted(setup):
    os.kill(os.getpid(), signal.SIGINT)
    return predictions(setup)

training.predictions = interrupted
rnn_scratch.train("numpy", num_epochs=30, run="two", **settings)
""",
    """
training.predictions = predictions
settings |= {"lr": 1e6, "activation": "relu", "sigma": 10.0, "theta": None}
rnn_scratch.train("numpy", num_epochs=3, run="three", **settings)
""",
]


def test_in_a_real_notebook():
    pytest.importorskip("ipykernel", reason="the extra `notebooks` is not installed")
    client = pytest.importorskip("nbclient", reason="the extra `notebooks` is not installed")
    from nbformat import v4

    sources = [source.replace("{settings}", repr(SMALL)) for source in CELLS]
    book = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    where = {"metadata": {"path": str(Path.cwd())}}
    client.NotebookClient(
        book, timeout=120, resources=where, allow_errors=True, kernel_name="python3"
    ).execute()
    trained, again, resumed, interrupted, diverged = (
        [(each.output_type, each) for each in cell.outputs] for cell in book.cells
    )

    def html(output):
        return output[1].data["text/html"]

    assert [kind for kind, _ in trained] == ["display_data"]
    assert [kind for kind, _ in again] == ["execute_result"]
    assert html(trained[0]) == html(again[0])
    assert "12 epochs, perplexity " in html(again[0])
    assert again[0][1].data["text/plain"].startswith("<Run one: 12 epochs, perplexity ")

    assert {kind for kind, _ in resumed[:-1]} == {"stream"}
    assert "epochs 13 to 14" in "".join(output.text for _, output in resumed[:-1])
    assert "14 epochs, perplexity " in html(resumed[-1])

    assert [kind for kind, _ in interrupted] == ["display_data", "error"]
    assert "10 epochs, perplexity " in html(interrupted[0])
    assert "stopped in epoch 11 of 30" in html(interrupted[0])
    assert "to go on: rnn_scratch.resume(&#x27;two&#x27;, 30)" in html(interrupted[0])
    assert "data:image/png" in html(interrupted[0])

    assert [kind for kind, _ in diverged] == ["display_data", "error"]
    assert "stopped in epoch 1 of 3" in html(diverged[0])
    assert "to go on" not in html(diverged[0])
    assert "training has diverged" in diverged[1][1].evalue
