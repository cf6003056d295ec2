"""Other frameworks compute what the record states, and the measurement detects mistakes."""

import json

import numpy as np
import pytest
from helpers import CLONE, RECORDS, python_path, require_tested
from measure import frameworks, layers, updates
from measure.measuring import spawn

from rnn_scratch.contract import ModelConfig
from rnn_scratch.parameters import draw_parameters

RECORD = json.loads((RECORDS / "frameworks.json").read_bytes())
RECORDED = {framework["name"]: framework for framework in RECORD["frameworks"]}
# The frameworks to measure again with each backend; MLX and ONNX depend on none.
SUBJECTS = {
    "torch": ("torch", "mlx", "onnx", "onnxruntime"),
    "tensorflow": ("keras-tensorflow", "tensorflow"),
    "mxnet": ("mxnet",),
    "jax": ("linen", "nnx", "optax"),
}
LAYERS = [subject.layers for subject in frameworks.SUBJECTS.values() if subject.layers]


def claims(rows):
    """Return rows with those differences that are not due to rounding, which varies."""
    names = ("kind", "layer", "item", "explanation", "is_precise", "error")
    kept = []
    for row in rows:
        kept.append({name: row.get(name) for name in names})
        if row["difference"] > 1e-5:
            kept[-1]["difference"] = pytest.approx(row["difference"], rel=0.01)
    return kept


def releases(versions):
    """Return versions without the device that a package was built for, such as "+cpu"."""
    return {package: version.partition("+")[0] for package, version in versions.items()}


@pytest.fixture
def _in_children(monkeypatch):
    """Let child processes import the measurement."""
    monkeypatch.setenv(*python_path(CLONE / "notebooks").popitem())


@pytest.mark.frameworks(by_default=("torch", "tensorflow"))
@pytest.mark.usefixtures("_in_children")
def test_frameworks_compute_what_the_record_states(candidate):
    installed = [name for name in SUBJECTS.get(candidate, ()) if frameworks.find_versions(name)]
    if not installed:
        pytest.skip("a framework that this test does not know")
    for name in installed:
        recorded, rows = RECORDED[frameworks.SUBJECTS[name].title], frameworks.measure_alone(name)
        # Another version may compute something else, but every difference should be explained.
        assert all(row["explanation"] is not None for row in rows), rows
        if releases(frameworks.find_versions(name)) == releases(recorded["versions"]):
            assert claims(rows) == claims(recorded["rows"]), "run: nox -s records -- frameworks"


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_weights_are_converted_in_both_directions(layer):
    for cell, (_, gates) in layer.cells.items():
        options = ModelConfig(5, 4, cell, dtype="float64")
        arrays = draw_parameters(options, 1.0, 0)
        for name in arrays.keys() - {"W_hq", "b_q"}:
            arrays[name] = np.random.RandomState(len(name)).normal(size=arrays[name].shape)
        placed = layer.place(cell, layers.join(arrays, options, gates))
        restored = layers.split(layer.read(cell, placed), options, gates)
        assert restored.keys() == arrays.keys() - {"W_hq", "b_q"}
        for name, array in restored.items():
            is_lost = name == "b_hh" and type(layer) is layers.NNX  # it has no such bias
            assert np.array_equal(array, arrays[name] * (not is_lost)), (cell, name)


@pytest.mark.parametrize("direction", ["place", "read", ""])
def test_swapped_gates_are_an_unexplained_difference(backend_names, direction):
    require_tested(backend_names, "torch")

    def swap(weights):
        parts = (np.split(array, 4, -1) for array in weights)
        return layers.Weights(*(np.concatenate([f, i, c, o], -1) for i, f, c, o in parts))

    class Swapped(layers.Torch):
        cells = {"lstm": layers.Torch.cells["lstm"]}

        def place(self, cell, weights):
            return super().place(cell, swap(weights) if direction == "place" else weights)

        def read(self, cell, arrays):
            weights = super().read(cell, arrays)
            return swap(weights) if direction == "read" else weights

    (row,) = frameworks.measure_layers(Swapped())
    assert row["explanation"] == (None if direction else "")
    assert (row["difference"] > 0.1) == bool(direction)


def test_wrong_updates_are_an_unexplained_difference(backend_names):
    require_tested(backend_names, "torch")

    class Wrong(updates.Torch):
        def train(self, arrays, grads, rules):
            return super().train(arrays, grads, [rule._replace(lr=2 * rule.lr) for rule in rules])

        def embed(self, W, tokens, grads, rule, sparse=False):
            return super().embed(W, tokens, grads, rule._replace(lr=2 * rule.lr), sparse)

        def clip(self, grads, theta):
            return super().clip(grads, 2 * theta)

    for measure in ("measure_optimizers", "measure_embeddings", "measure_clip"):
        for row in getattr(frameworks, measure)(Wrong()):
            assert row["explanation"] is None, row


@pytest.mark.parametrize("row", RECORD["onnx_vectors"], ids=lambda row: row["operator"])
@pytest.mark.usefixtures("_in_children")
def test_onnx_vectors_miss_the_recorded_mistakes(row):
    pytest.importorskip("onnx")
    measured = spawn(frameworks.measure_onnx_vectors, row["operator"])
    assert measured["undetected_here"] == row["undetected_here"] == []
    if frameworks.find_versions("onnx") == RECORDED["ONNX reference"]["versions"]:
        assert measured == row
