"""Training in a notebook: one card that grows, and stays; and the card of a run."""

import math
import sys
import types
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import SMALL

import rnn_scratch
from rnn_scratch.runs import card, notebook, progress
from rnn_scratch.runs.folder import Epoch
from rnn_scratch.runs.training import perplexity


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
    """The card, on a clock on which an epoch takes a quarter of a second, and nothing else any."""

    def __init__(self, monkeypatch):
        self.time = 100.0
        for module in (notebook, progress):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self):
        return self.time

    def epoch(self, epoch):
        self.time += 1 / 4
        super().epoch(epoch)


def test_the_card_is_drawn_once_a_second_and_ends_as_that_of_the_run(kernel, monkeypatch):
    run = rnn_scratch.train("numpy", num_epochs=21, report=Clock(monkeypatch), **SMALL)
    assert kernel.displays == 1
    first, *within, stopped, last = kernel.states
    assert first["text/plain"] == "epoch 1 of 21"
    # What there is after the fourth epoch, in which 17 of 21 were left when the fifth began.
    assert [state["text/plain"].split("  ")[0] for state in within] == [
        f"epoch {epoch} of 21, time left 0:00:0{left}"
        for epoch, left in [(4, 4), (8, 4), (12, 2), (16, 2), (20, 0)]
    ]
    for state, epoch in zip(within, (4, 8, 12, 16, 20)):
        assert progress.numbers(run.history[epoch - 1]) in state["text/html"]
        assert card.svg(run.history[:epoch], 21) in state["text/html"]
        sample = run.history[epoch // 10 * 10 - 1].sample if epoch >= 10 else "<pre"
        assert (sample in state["text/html"]) == (epoch >= 10)
    assert last == {"text/html": run._repr_html_(), "text/plain": repr(run)}
    for state in (stopped, last):
        assert "time left" not in state["text/html"]
        assert "progressbar" not in state["text/html"]


def test_a_resumed_run_s_curve_has_all_its_epochs(kernel):
    run = rnn_scratch.train("numpy", num_epochs=3, report=lambda line: None, **SMALL)
    assert kernel.states == []  # what was asked for, and nothing else
    more = rnn_scratch.resume(run, 5)
    assert card.svg(run.history, 5) in kernel.states[0]["text/html"]
    assert kernel.states[-1] == {"text/html": more._repr_html_(), "text/plain": repr(more)}
    assert kernel.displays == 1


def test_progress_within_a_long_epoch(kernel, monkeypatch):
    monkeypatch.setattr(notebook, "EVERY", 0.0)
    rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert any(
        "epoch 1 of 1, time left 0:00:0" in state["text/html"]
        and "so far" in state["text/html"]
        and 'aria-valuenow="0"' not in state["text/html"]
        for state in kernel.states[1:-2]
    )


def test_a_run_displays_its_card_unless_its_training_has_left_it_in_the_cell(kernel):
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    run._ipython_display_()  # displays nothing: the card is there
    kernel.execution_count = 2
    with pytest.raises(NotImplementedError):  # so that IPython displays its HTML
        run._ipython_display_()
    other = rnn_scratch.train("numpy", num_epochs=1, report=print, **SMALL)
    with pytest.raises(NotImplementedError):
        other._ipython_display_()


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
    page = card.card("<a>", ["<b>"], ["<i> & so on"], Path("<u>"), [], 1)
    texts = list(ElementTree.fromstring(page).itertext())
    assert [text for text in texts if "<" in text] == ["<a>", "<b>", "<i> & so on", "<u>"]


def history(*losses, held_out=None):
    """Epochs with these losses; all with the same one on a held-out text."""
    valid = None if held_out is None else perplexity(held_out)
    rows = enumerate(losses, 1)
    return [
        Epoch(n, loss, perplexity(loss), held_out, valid, 10, 1.0, "numpy", None)
        for n, loss in rows
    ]


def drawn(rows, last):
    """What a picture has: the points of its curves, and the places of the numbers at its axes."""
    picture = ElementTree.fromstring(card.svg(rows, last))
    elements = [(each.tag.split("}")[1], each) for each in picture.iter()]
    polylines = [each.get("points").split() for kind, each in elements if kind == "polyline"]
    curves = [
        [tuple(map(float, point.split(","))) for point in points]
        for points in polylines[::2]  # each is followed by its sample in the legend
    ]
    texts = [each for kind, each in elements if kind == "text"]
    left, below = str(card.LEFT - 6), str(card.HEIGHT - card.BOTTOM + 16)
    perplexities = {each.text: float(each.get("y")) for each in texts if each.get("x") == left}
    epochs = {each.text: float(each.get("x")) for each in texts if each.get("y") == below}
    return curves, perplexities, epochs


def test_points_lie_where_the_axes_say():
    tens = history(*map(math.log, (100, 10, 1)), held_out=math.log(10))
    (curve, held_out), perplexities, epochs = drawn(tens, 10)
    for points, values in ((curve, (100, 10, 1)), (held_out, (10, 10, 10))):
        for number, ((x, y), value) in enumerate(zip(points, values), 1):
            assert y == pytest.approx(perplexities[str(value)] - 4)  # the middle of its figures
            share = (x - epochs["0"]) / (epochs["10"] - epochs["0"])
            assert share == pytest.approx(number / 10, abs=0.001)
    assert (epochs["0"], epochs["10"]) == (card.LEFT, card.WIDTH - card.RIGHT)
    assert perplexities["10"] - perplexities["100"] == pytest.approx(
        perplexities["1"] - perplexities["10"], abs=0.2
    )


@pytest.mark.parametrize(
    ("losses", "marks"),
    [
        ([math.log(20.5), math.log(1.03)], [1, 2, 5, 10, 20, 50]),
        ([math.log(7.3), math.log(7.1)], [5, 10]),
        ([0.0, 0.0], [1, 2]),
        ([math.log(25_000), math.log(11_000)], ["1e+04", "2e+04", "5e+04"]),
        ([math.log(51), math.log(300)], [50, 100, 200, 500]),
        ([math.log(5e4), math.log(3)], [10, 100, 1000, "1e+04", "1e+05"]),
        ([690.0, 1.0], [10, 1e44, 1e87, 1e130, 1e173, 1e216, 1e259]),
        ([800.0, math.log(3)], [2, 5]),  # the first is too large for a number
        ([800.0], [1, 2, 5, 10, 20]),
        ([], [1, 2, 5, 10, 20]),
    ],
)
def test_the_marks_of_the_perplexities(losses, marks):
    _, perplexities, _ = drawn(history(*losses), 3)
    assert list(perplexities) == [str(mark) for mark in marks]


@pytest.mark.parametrize(
    ("last", "step"), [(1, 1), (5, 1), (6, 2), (10, 2), (25, 5), (40, 10), (500, 100), (501, 200)]
)
def test_the_marks_of_the_epochs(last, step):
    _, _, epochs = drawn([], last)
    assert list(epochs) == [str(epoch) for epoch in range(0, last + 1, step)]


def test_the_picture_of_a_long_training_is_small_and_complete():
    rows = history(*(3 - number / 10_000 for number in range(10_000)))
    (curve,), _, epochs = drawn(rows, 10_000)
    assert curve[-1][0] == epochs["10000"]
    assert len(card.svg(rows, 10_000)) < 10_000


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
    assert "<circle" in html(interrupted[0])

    assert [kind for kind, _ in diverged] == ["display_data", "error"]
    assert "stopped in epoch 1 of 3" in html(diverged[0])
    assert "to go on" not in html(diverged[0])
    assert "training has diverged" in diverged[1][1].evalue
