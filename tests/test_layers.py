"""The models on the frameworks' own layers: which cells they have, and their runs."""

import numpy as np
import pytest
from helpers import SMALL, assert_same, parameters

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import CELLS, Options

H, V = 7, 11

# The gated cells that the layers of each framework compute, which `check` verifies.
LAYERS = {
    "torch": {"gru-after": "GRU", "lstm": "LSTM"},
    "tensorflow": {"gru": "GRU", "gru-after": "GRU", "lstm": "LSTM"},
    "mxnet": {"gru-after": "GRU", "lstm": "LSTM"},
    "jax": {"gru-after": "GRUCell", "lstm": "OptimizedLSTMCell"},
}
RELU = {"tensorflow", "jax"}  # whose gated layers can have it in place of tanh
RUN = {**SMALL, "sigma": 0.3, "exact": True, "num_epochs": 2}


def build(name, backend, options):
    """The model on the framework's layers, with any parameters."""
    arrays = {name: np.zeros(shape) for name, shape in options.shapes().items()}
    return registry.build(name, backend, "concise", arrays, options)


def test_which_cells_are_offered(backend, candidate, monkeypatch):
    if candidate not in LAYERS:
        pytest.skip("a layer that this test does not know")
    layers = LAYERS[candidate]
    expected = {
        ("tanh", cell): None
        if cell == "rnn" or cell in layers
        else ("has its reset gate after the product", "--cell gru-after", "--model scratch")
        for cell in CELLS
    }
    for cell, name in layers.items():
        refused = (f"{name}, has no relu", "--activation tanh", "--model scratch")
        expected["relu", cell] = None if candidate in RELU else refused
    monkeypatch.setitem(CELLS, "plainest", CELLS["rnn"])
    expected["tanh", "plainest"] = ("no layer for the cell plainest",)
    for (activation, cell), words in expected.items():
        options = Options(V, H, cell, activation)
        if words is None:
            build(candidate, backend, options)
            continue
        with pytest.raises(registry.NotOffered) as error:
            build(candidate, backend, options)
        for word in words:
            assert word in str(error.value)


@pytest.mark.parametrize("cell", ["gru-after", "lstm"])  # whose gates a layer may reorder
def test_exact_mode_and_checkpoints_from_layers_to_scratch_and_back(candidate, cell):
    if cell not in LAYERS.get(candidate, {}):
        pytest.skip(f"{candidate} has no layer for {cell}")
    settings = {**RUN, "cell": cell}
    expected = rnn_scratch.train("numpy", run="reference", **{**settings, "num_epochs": 4}).arrays
    first = rnn_scratch.train(candidate, model="concise", run="layers", **settings)
    assert_same(parameters(first), first.arrays)
    second = rnn_scratch.resume(first, num_epochs=3, model="scratch")
    third = rnn_scratch.resume(second, num_epochs=4, model="concise")
    assert third.history[-1].epoch == 4
    assert_same(third.arrays, expected)
