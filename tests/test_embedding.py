"""A learnable embedding in place of one-hot vectors: `--embedding N`."""

import numpy as np
import pytest
from helpers import SMALL, assert_same, parameters, variants

import rnn_scratch
from rnn_scratch.contract import VARIANTS, Options
from rnn_scratch.parameters import initial

B, T, H, V, N = 3, 5, 7, 11, 4
EMBEDDED = {**SMALL, "embedding": 5, "sigma": 0.3, "dtype": "float64"}


@pytest.fixture(params=VARIANTS)
def build(request, backend, backend_name):
    """The backend's function that builds a variant."""
    if request.param not in variants(backend_name):
        pytest.skip(f"{backend_name} has no {request.param} model")
    return getattr(backend, request.param).build


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_one_hot_vectors_are_an_embedding_that_is_the_identity(backend, build):
    options = Options(V, H, dtype="float64")
    arrays = initial(options, 0.5, 0)
    tokens = np.random.RandomState(0).randint(0, V, (B, T))
    logits = []
    for start, size in ((arrays, 0), ({"W_e": np.eye(V), **arrays}, V)):
        model = build(start, options._replace(embedding=size))
        outputs, _ = model.forward(backend.machine.tensor(tokens, "cpu"), model.state(B))
        logits.append(backend.machine.array(outputs))
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-14)


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_a_run_with_an_embedding_learns_changes_backend_and_predicts(backend_name):
    run = rnn_scratch.train(backend_name, num_epochs=3, run="ours", **EMBEDDED)
    numpy = rnn_scratch.train("numpy", num_epochs=3, run="numpy", **EMBEDDED)
    assert [row.loss for row in run.history] == pytest.approx(
        [row.loss for row in numpy.history], rel=1e-11
    )
    options = Options(len(run.vocab), 12, embedding=5)
    assert {n: a.shape for n, a in run.arrays.items()} == options.shapes()
    moved = np.abs(run.arrays["W_e"] - initial(options, 0.3, 0)["W_e"])
    assert moved.max() > 1e-3  # it is learned
    assert_same(parameters("ours"), run.arrays)
    other = rnn_scratch.resume(numpy, num_epochs=4, backend=backend_name)
    assert other.history[-1].epoch == 4
    assert rnn_scratch.predict(run, "time ", 5, backend="numpy").startswith("time ")
    models = variants(backend_name)
    texts = {rnn_scratch.predict(run, "time ", 20, model=model) for model in models}
    assert len(texts) == 1
