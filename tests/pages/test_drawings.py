"""The drawings in the notebooks show the arrays that they are given."""

import drawings
import numpy as np
import pytest
from matplotlib import pyplot as plt

from rnn_scratch.text import minibatches


@pytest.fixture
def figure(monkeypatch):
    """Return a function that returns the last figure, which is kept open instead of being shown."""
    saved = plt.rcParams.copy()
    monkeypatch.setattr(plt, "show", lambda: None)
    drawings.style()
    yield plt.gcf
    plt.close("all")
    plt.rcParams.update(saved)


def visible_text(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


@pytest.mark.parametrize(("T", "steps"), [(1, ["0"]), (2, ["0", "1"]), (35, ["0", "1", "34"])])
def test_unrolled_network_labels_arrows_with_shapes(figure, T, steps):
    drawings.unrolled((T, 3, 28), (3, 7), (3 * T, 28))
    (axes,) = figure().axes
    labels = visible_text(axes)
    for name in "xhs":
        assert [f"${name}_{{{step}}}$" for step in steps] == [
            label for label in labels if label.startswith(f"${name}_") and "-1" not in label
        ]
    assert labels.count("(3, 28) @ $W_{xh}$") == labels.count("(3, 7) @ $W_{hq}$") == len(steps)
    assert sum(label.endswith("(3, 7) @ $W_{hh}$") for label in labels) == len(steps)
    assert sum("\N{MIDLINE HORIZONTAL ELLIPSIS}" in label for label in labels) == (T > 2)
    assert str((3 * T, 28)) in axes.get_title()


def test_shapes_drawing_shows_the_arrays_of_a_minibatch(figure):
    X, logits = np.array([[3, 1, 2], [0, 4, 4]]), np.random.RandomState(0).normal(size=(6, 5))
    drawings.shapes(X, np.eye(5)[X.T], logits)
    tokens_axes, middle, logits_axes = figure().axes
    tokens = {(text.get_position(), text.get_text()) for text in tokens_axes.texts}
    assert tokens == {((t, b), str(X[b, t])) for b in range(2) for t in range(3)}
    rows = middle.images[0].get_array().filled(np.nan)
    assert [int(np.nanargmax(row)) for row in rows if not np.isnan(row).any()] == [3, 0, 1, 4, 2, 4]
    assert np.array_equal(logits_axes.images[0].get_array(), logits)
    labels = [label.get_text() for label in logits_axes.get_yticklabels()]
    assert labels[:3] == ["step 0, row 0", "step 0, row 1", "step 1, row 0"]
    for axes, title in (
        (tokens_axes, "X (2, 3)"),
        (middle, "vectors (3, 2, 5)"),
        (logits_axes, "(6, 5)"),
    ):
        assert axes.get_title().endswith(title)


def test_arrows_connect_rows_that_continue(figure):
    line = np.arange(40)
    ways = {
        "sequential": list(minibatches.sequential(line, 2, 5, offset=0)),
        "random": list(minibatches.random(line, 2, 5, 0, np.random.RandomState(0))),
    }
    drawings.partitions(ways, len(line))
    sequential, random = figure().axes
    arrows = [[text for text in axes.texts if not text.get_text()] for axes in (sequential, random)]
    assert len(arrows[0]) == 2 * (len(ways["sequential"]) - 1) == 4
    assert len(arrows[1]) < len(ways["random"])
    starts = [bar.get_x() + 0.5 for bar in sequential.patches]
    assert starts == [row[0] for batch in ways["sequential"] for row in batch.X]


def test_bars_show_likely_characters_and_highlight_the_target(figure):
    probabilities = np.array([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]])
    drawings.next_characters("aba", probabilities, ["a", "b", " "], num_shown=2)
    first_axes, second = figure().axes
    for axes, actual in ((first_axes, "b"), (second, "a")):
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == ["\N{OPEN BOX}", actual]
        assert len({bar.get_facecolor() for bar in axes.patches}) == 2
    assert [bar.get_width() for bar in first_axes.patches] == [0.3, 0.6]
    assert [axes.get_title() for axes in (first_axes, second)] == ["a", "ab"]


def test_softmax_is_drawn_in_three_steps(figure):
    logits = np.array([0.0, 1.0, -2.0])
    drawings.softmax(logits, ["<unk>", " ", "e"], target=1)
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure().axes]
    assert heights[0] == logits.tolist()
    assert heights[2] == pytest.approx(np.exp(logits) / np.exp(logits).sum())
    assert "'␣': 0.705" in figure().axes[2].get_title()
