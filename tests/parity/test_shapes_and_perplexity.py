"""Shapes and perplexity curves in all frameworks, compared with the NumPy reference."""

import numpy as np
import pytest

from rnn_scratch import parameters, registry
from rnn_scratch.contract import CELLS, Batch, Options, Update

V, H, B, T = 28, 16, 4, 6  # vocabulary size, hidden units, batch size, time steps
NUM_BATCHES, NUM_EPOCHS = 12, 8
TEXT = np.resize([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7], B * NUM_BATCHES * T + 1)
TOKENS, TARGETS = (tokens.reshape(B, NUM_BATCHES, T) for tokens in (TEXT[:-1], TEXT[1:]))
BATCHES = [Batch(TOKENS[:, i].copy(), TARGETS[:, i].copy()) for i in range(NUM_BATCHES)]


def build(name, variant, cell, device="cpu"):
    """Return the backend, and a model with the same initial parameters in every framework."""
    options = Options(V, H, cell, device=device)
    arrays, backend = parameters.initial(options, 0.1, seed=0), registry.load(name)
    return backend, registry.build(backend, variant, arrays, options)


def shapes(backend, model):
    """Return the shapes of logits, states, parameters and gradients."""
    batch = BATCHES[0].map(backend.machine.tensor, model.options.device)
    logits, next_state = model.forward(batch.X, model.state(B))
    _, grads, last_state = backend.scratch.gradients(model, batch, model.state(B))
    states = [[tuple(tensor.shape) for tensor in state] for state in (next_state, last_state)]
    groups = [model.to_arrays(group) for group in (model.params, grads)]
    arrays = [{name: array.shape for name, array in group.items()} for group in groups]
    return tuple(logits.shape), states, arrays


def perplexities(backend, model):
    """Train the model; return the perplexity of each epoch as a list."""
    updates = [Update(lr=1.0)] * NUM_BATCHES
    epochs = (backend.scratch.train_epoch(model, BATCHES, updates, True) for _ in range(NUM_EPOCHS))
    return [np.exp(np.mean(losses)) for losses, _ in epochs]


# The check compares every variant with every cell; the other models here belong to `frameworks`.
FRAMEWORKS = pytest.mark.frameworks(by_default=("torch",))


@pytest.mark.parametrize("cell", ["rnn", "lstm", pytest.param("gru-after", marks=FRAMEWORKS)])
@pytest.mark.parametrize(
    "variant", ["scratch", *(pytest.param(name, marks=FRAMEWORKS) for name in ("fast", "concise"))]
)
def test_shapes_and_perplexities_equal_the_reference(candidate, device, variant, cell):
    try:
        backend, model = build(candidate, variant, cell, device)
    except registry.NotSupportedError as error:
        pytest.skip(str(error))
    reference = build("numpy", "scratch", cell)
    actual = shapes(backend, model)
    assert actual == shapes(*reference)
    assert actual[:2] == ((T * B, V), [[(B, H)] * CELLS[cell].num_states] * 2)
    curve = perplexities(backend, model)
    assert curve[-1] < curve[0] / 2
    np.testing.assert_allclose(curve, perplexities(*reference), rtol=0.01)
