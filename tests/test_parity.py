"""Every backend against the reference, by the same code that `rnn-scratch check` runs."""

import numpy as np
import pytest

from rnn_scratch import registry
from rnn_scratch.check import cases, checks
from rnn_scratch.check import pieces as parity
from rnn_scratch.check import whole as training
from rnn_scratch.check.cases import Row, worst
from rnn_scratch.contract import Options, Update
from rnn_scratch.initial import initial
from rnn_scratch.text import minibatches, vocabulary


def assert_parity(rows):
    off = [row for row in rows if not row.passed]
    assert not off, "\n".join(map(str, off))


def test_scratch_equals_the_reference(backend):
    rows = list(parity.hold(backend, "scratch"))
    assert_parity(rows)
    told = {row.piece for row in rows}
    pieces = {"params", "state", "encode", "step", "forward", "loss", "clip", "update",
              "gradients", "train_epoch", "evaluate", "predict"}  # fmt: skip
    assert pieces <= told


def test_concise_equals_the_reference(candidate):
    rows = list(parity.hold(registry.load(candidate), "concise"))
    assert_parity(rows)
    offered = [row for row in rows if row.piece != "concise"]
    assert {"float32 tanh", "float32 relu"} <= {row.case for row in offered}


def test_numpy_says_that_it_has_no_layers():
    (row, *_) = parity.hold(registry.load("numpy"), "concise")
    assert row.piece == "concise"
    assert "no recurrent layer" in row.note


def test_a_layer_that_cannot_do_float64_says_so(asked_backends):
    if "mxnet" not in asked_backends:
        pytest.skip("only MXNet has such a layer")
    rows = list(parity.hold(registry.load("mxnet"), "concise"))
    (refused,) = (row for row in rows if row.piece == "concise")
    assert refused.case == "float64 relu"
    assert "computes relu in float32" in refused.note


def test_the_clip_acts_in_some_updates_and_not_in_others():
    # A check in which it never acts, or always, proves nothing about it.
    reference = registry.load("numpy")
    tokens, _ = training.built_in_text(0)
    for activation in ("tanh", "relu"):
        case = cases.make_case(reference, "scratch", Options(activation, "float64"))
        for sampling in ("sequential", "random"):
            batches = minibatches.of_epoch(tokens, cases.B, cases.T, sampling, 0, 1)
            how = Update(training.LR, training.THETA, None)
            acted = training.clip_acts(case, list(batches)[:100], how, sampling == "sequential")
            assert 10 < sum(acted) < 95


def test_sizes_cannot_hide_a_mistake():
    assert len({cases.B, cases.T, cases.H, cases.V, 28}) == 5


@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_one_update_and_ten_at_the_chapter_s_sizes(candidate, time_machine, sampling):
    backends = registry.load("numpy"), registry.load(candidate)
    tokens, vocab = time_machine
    arrays = initial(len(vocab), 512, 0.01, 0)
    batches = [
        pair
        for epoch in (1, 2)
        for pair in minibatches.of_epoch(tokens, 32, 35, sampling, 0, epoch)
    ]
    carry = minibatches.carries(sampling)
    for updates, allowed in ((1, 1e-14), (10, 1e-12)):
        found = []
        for backend in backends:
            model = backend.scratch(arrays, Options("tanh", "float64"))
            backend.train_epoch(model, batches[:updates], Update(), carry)
            found.append(model.to_arrays(model.params))
        difference, where = worst(*found)
        assert difference <= allowed, where


def test_perplexities_of_many_epochs_agree(candidate, time_machine):
    # Ten of the hundred epochs for which this holds: they take the test run's time.
    tokens, vocab = time_machine
    arrays = initial(len(vocab), 128, 0.01, 0)
    losses = []
    for backend in (registry.load("numpy"), registry.load(candidate)):
        model = backend.scratch(arrays, Options("tanh", "float64"))
        losses.append([])
        for epoch in range(1, 11):
            batches = minibatches.of_epoch(tokens, 32, 35, "sequential", 0, epoch)
            summed, count, _ = backend.train_epoch(model, batches, Update(), True)
            losses[-1].append(summed / count)
    np.testing.assert_allclose(np.exp(losses[0]), np.exp(losses[1]), rtol=1e-9)


def test_worst_names_the_element():
    expected = {"W": np.zeros((2, 3)), "b": np.zeros(3)}
    found = {"W": np.array([[0, 0, 0], [0, -0.5, 0]]), "b": np.array([0, 0.25, 0])}
    assert worst(expected, found) == (0.5, "W[1, 1]")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (np.zeros((3, 2)), "shape (3, 2) in place of (2, 3)"),
        (np.zeros((2, 3), np.float32), "float32 in place of float64"),
        (np.full((2, 3), np.nan), "[0, 0] nan"),
    ],
)
def test_worst_says_why_things_cannot_be_compared(found, words):
    assert worst(np.zeros((2, 3)), found) == (None, words)
    assert not Row("step", "logits", "", *worst(np.zeros((2, 3)), found), 1.0).passed


def test_worst_notices_a_missing_name():
    assert worst({"W": np.zeros(1), "b": np.zeros(1)}, {"W": np.zeros(1)})[0] is None


def test_collapse_keeps_everything_that_is_off():
    rows = [
        Row("step", "logits", "float64 tanh", 1.0, "", 0.5),
        Row("step", "state", "float64 tanh", 2.0, "", 0.5),
        Row("loss", "mean", "float64 tanh", 0.1, "", 0.5),
        Row("loss", "mean", "float64 relu", 0.2, "", 0.5),
    ]
    assert checks.collapse(rows) == [rows[0], rows[1], rows[3]]


@pytest.fixture(scope="module")
def time_machine(book):
    normalized = vocabulary.normalize(book.content, "chapter")
    vocab = vocabulary.build(normalized)
    return vocabulary.encode(normalized, vocab)[:10_000], vocab
