"""The models on the frameworks' own layers: which cells they have."""

import numpy as np
import pytest

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
