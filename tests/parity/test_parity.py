"""Every model against the reference, by the same code that `rnn-scratch check` runs."""

import contextlib
import itertools
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from helpers import require_tested, skip_without, variants

from rnn_scratch import registry
from rnn_scratch.check import epochs, functions, inputs, results, runner
from rnn_scratch.check.inputs import DEEP, V
from rnn_scratch.check.results import Row, worst
from rnn_scratch.contract import CELLS, Batch, Options, Rates, Update
from rnn_scratch.parameters import initial
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, minibatches

# TensorFlow and JAX take one to two minutes for the graphs of their own layers.
CONCISE = pytest.mark.frameworks(by_default=("numpy", "torch", "mxnet"))
MODELS = ("scratch", "fast", pytest.param("concise", marks=CONCISE))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_equals_the_reference(backend, backend_name, device, model):
    rows = list(runner.check(backend_name, backend, model, inputs.cases(device, variant=model)))
    failures = [row for row in rows if not row.passed]
    assert not failures, "\n".join(map(str, failures))
    offered = [row for row in rows if row.offered]
    if model not in variants(backend_name):
        assert {row.piece for row in offered} <= {"signature"}
        return
    expected = {*runner.PIECES[model], *runner.ONCE} - {functions.detach, functions.cell}
    assert {piece.__name__ for piece in expected} <= {row.piece for row in offered}
    for cell in CELLS:
        assert {f"float32 {cell}", f"float64 {cell}"} <= {row.case for row in rows}


def test_a_layer_that_cannot_compute_float64_says_so(backend_names):
    require_tested(backend_names, "mxnet")  # only MXNet has such a layer
    cases = inputs.in_each_dtype(inputs.PLAIN._replace(cell="rnn-relu"))
    rows = runner.check("mxnet", registry.load("mxnet"), "concise", cases, short=True)
    (refusal,) = (row for row in rows if not row.offered)
    assert refusal.case == "float64 rnn-relu"
    assert "computes relu on the CPU in float32" in refusal.note


def test_a_variant_that_a_backend_lacks_is_not_offered():
    numpy = registry.load("numpy")

    class Backend:
        scratch, deep, machine = numpy.scratch, numpy.deep, numpy.machine

    rows = list(runner.check("plain", Backend, "fast"))
    assert rows
    assert all(row.passed and not row.offered for row in rows)
    assert {row.note for row in rows} == {"The plain backend has no fast model."}


def test_a_device_that_a_backend_lacks_is_a_failure():
    (*_, row) = runner.rows(Runtime("numpy", device="cuda"))
    assert (row.piece, row.passed) == ("backend", False)
    assert "has no device 'cuda'" in row.where


def test_tolerances_depend_on_dtype_and_device():
    assert results.tolerance(1e-14, "float64", "cpu") == results.tolerance(1e-14, "float64", "cuda")
    on_cpu, on_cuda = (results.tolerance(1e-14, "float32", device) for device in ("cpu", "cuda"))
    assert 1e-6 < on_cpu < on_cuda < results.tolerance(1e-14, "float32", "mps") < 1e-3
    assert results.tolerance(0, "float32", "mps") == 0


def test_some_updates_are_clipped_and_others_are_not():
    # A check in which none or all are clipped proves nothing about clipping.
    sampled, reference = (epochs.SEQUENTIAL, epochs.RANDOM), registry.load("numpy")
    for cell, settings, updates in itertools.product(CELLS, sampled, (10, 100)):
        options = inputs.PLAIN._replace(cell=cell, dtype="float64")
        _, clipped = epochs.threshold(reference, options, settings, updates)
        assert 0.1 < np.mean(clipped) < 0.95, cell


def test_sizes_cannot_hide_a_mistake():
    characters = len(epochs.built_in_text(inputs.PLAIN)[1]["b_q"])
    sizes = inputs.B, inputs.T, inputs.H, inputs.V, DEEP.embedding, DEEP.num_layers
    assert len({*sizes, characters}) == 7
    # Optimized models use other operations for fewer tokens than characters.
    assert inputs.B * inputs.T > characters > inputs.V
    assert inputs.B * inputs.T < functions.LARGE_V


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize(
    "sampling", ["sequential", pytest.param("random", marks=pytest.mark.frameworks)]
)
def test_one_update_and_ten_at_the_chapter_s_sizes(candidate, device, sampling):
    skip_without(registry.load(candidate), device, "float64")
    settings = Settings(sampling=sampling)
    text = dataset.prepare(books.load("tide-clock"), settings)
    options = Options(len(text.vocab), 512, dtype="float64")
    arrays = initial(options, 0.01, 0)
    batches = [
        batch._replace(rates=Rates(np.asarray(1.0)))
        for epoch in (1, 2)
        for batch in minibatches.epoch_batches(text.train, settings, epoch)
    ]
    carry = minibatches.carries(sampling)

    def train(name, model, device, updates):
        backend = registry.load(name)
        own = options._replace(device=device)
        network = registry.build(name, backend, model, arrays, own)
        backend.scratch.train_epoch(network, batches[:updates], Update(), carry)
        return network.to_arrays(network.params)

    for updates, allowed in ((1, 1e-14), (10, 1e-12)):
        expected = train("numpy", "scratch", "cpu", updates)
        for model in ("scratch", "fast"):
            try:
                actual = train(candidate, model, device, updates)
            except registry.NotOffered:
                continue
            difference, where, *_ = worst(expected, actual)
            assert difference <= allowed, (model, where)


# Units, steps, rows, layers, and the size of an embedding, of which 0 is none.
SMALLEST = [(*s, n % 4) for n, s in enumerate(itertools.product((1, 2, 3), repeat=4))]


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize("cell", CELLS)
def test_the_smallest_networks_are_trained_alike(backend, backend_name, cell):
    some = SMALLEST if backend_name in ("numpy", "torch") else SMALLEST[::40]
    for units, steps, rows, layers, embedding in some:
        options = Options(5, units, cell, embedding, layers, dtype="float64")
        tokens = np.random.RandomState(0).randint(0, 5, (2, rows, steps + 1), "int64")
        rates = Rates(np.asarray(0.5))
        batches = [Batch(each[:, :-1], each[:, 1:], rates=rates) for each in tokens]

        def trained(name, own, model, options=options, batches=batches):
            network = registry.build(name, own, model, initial(options, 0.5, 0), options)
            own.scratch.train_epoch(network, batches, Update(), carry=True)
            return network.to_arrays(network.params)

        expected = trained("numpy", registry.load("numpy"), "scratch")
        for model in variants(backend_name):
            with contextlib.suppress(registry.NotOffered):
                difference, where, *_ = worst(expected, trained(backend_name, backend, model))
                assert difference <= 1e-13, (model, options, where)


@pytest.mark.parametrize("cell", CELLS)
def test_onednn_gets_weights_whose_rows_or_columns_are_next_to_each_other(
    backend_names, cell, monkeypatch
):
    require_tested(backend_names, "torch")
    backend = registry.load("torch")
    products = import_module(f"{backend.__name__}.products")
    if not products.can_pack():
        pytest.skip("this PyTorch has no such operations")
    multiplied, by_onednn = [], products.by_onednn

    def watched(h, W, b=None):
        multiplied.append(W)
        return by_onednn(h, W, b)

    monkeypatch.setattr(products, "by_onednn", watched)
    options = Options(V, 512, cell)
    batch = Batch(*np.zeros((2, 2, 3), np.int64)).map(backend.machine.tensor, "cpu")
    model = registry.build("torch", backend, "fast", initial(options, 0.01, 0), options)
    backend.scratch.gradients(model, batch, model.state(2))
    assert multiplied
    assert all(W.is_contiguous() or W.T.is_contiguous() for W in multiplied)


ZEROS = {"W": np.zeros((2, 3)), "b": np.zeros(3)}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"W": np.array([[0, 0, 0], [0, -0.5, 0]]), "b": np.full(3, 0.25)}, (0.5, "W[1, 1]")),
        ({"W": np.zeros((3, 2))}, (None, "W: shape (3, 2) instead of (2, 3), axes swapped")),
        ({"W": np.zeros((2, 3), np.float32)}, (None, "W: float32 instead of float64")),
        ({"W": np.full((2, 3), np.nan)}, (None, "W[0, 0] nan")),
        ({"c": np.zeros(1)}, (None, "names W, b, c instead of W, b")),
    ],
)
def test_worst_names_the_element_or_says_why_there_is_none(changes, found):
    assert worst(ZEROS, {**ZEROS, **changes})[:2] == found
    assert not Row("step", "logits", "", *found, 0.1).passed


def test_of_several_tensors_the_worst_one_is_named():
    found = worst((np.zeros(2), np.zeros(3)), (np.zeros(2), np.array([0, 0, 0.5])))
    assert found == (0.5, "[1][2]", 0.0, 0.5)


@pytest.mark.parametrize(
    ("result", "where", "number"),
    [
        ("W_xh", "W_xh[0, 1]", "W_xh[0, 1]"),
        ("result, no θ", "b_h[2]", "result, no θ b_h[2]"),
        ("mean", results.RECORDED, "mean (weighted sum)"),
    ],
)
def test_a_row_says_which_number_is_off_and_by_how_much(result, where, number):
    row = Row("", result, "c", 1e-9, where, 1e-14, actual=0.512, expected=0.512000001)
    off = "is 0.512 instead of 0.512000001 in c: off by 1.0e-09, allowed 1.0e-14"
    assert row.sentence == f"{number} {off}"
    assert Row("", result, "c", None, where, 0).sentence == f"{result} in c: {where}"


# The models on the frameworks' own layers: which cells they have.


# The gated cells that the layers of each framework compute, which `check` verifies.
LAYERS = {
    "torch": {"gru-after", "lstm"},
    "tensorflow": {"gru", "gru-after", "lstm"},
    "mxnet": {"gru-after", "lstm"},
    "jax": {"gru-after", "lstm"},
}


def test_which_cells_are_offered(backend, candidate, monkeypatch):
    if candidate not in LAYERS:
        pytest.skip("a layer that this test does not know")
    offered = {"rnn", "rnn-relu", *LAYERS[candidate]}
    after = ("applies the reset gate after the product", "--cell gru-after", "--model scratch")
    expected = {cell: None if cell in offered else after for cell in CELLS}
    monkeypatch.setitem(CELLS, "plainest", CELLS["rnn"])
    expected["plainest"] = ("no layer for the cell plainest",)
    for cell, words in expected.items():
        options = Options(V, inputs.H, cell)
        arrays = initial(options, 0.1, 0)
        build = partial(registry.build, candidate, backend, "concise", arrays, options)
        if words is None:
            build()
            continue
        with pytest.raises(registry.NotOffered) as error:
            build()
        for word in words:
            assert word in str(error.value)
