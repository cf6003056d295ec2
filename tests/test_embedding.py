"""A learnable embedding in place of one-hot vectors: `--embedding N`."""

import numpy as np
import pytest
from helpers import variants

from rnn_scratch.contract import VARIANTS, Options
from rnn_scratch.parameters import initial

B, T, H, V = 3, 5, 7, 11


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
