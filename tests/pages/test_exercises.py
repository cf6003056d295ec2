"""Measurements quoted in lessons: memory, counting, and training without detaching."""

import numpy as np
import pytest
from experiments import (
    perplexity_by_counting,
    recall_accuracy,
    recall_minibatches,
    recall_training,
)
from measure.exercises import train_epoch_not_detached

from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, ModelConfig, UpdateRule


def test_witten_bell_smoothing_follows_its_formula():
    # In "abaab", 2 b's and 1 a follow an "a"; overall, it has 3 a's, 2 b's and 2 distinct letters.
    unigram = {"a": (3 + 2 / 4) / 7, "b": (2 + 2 / 4) / 7}
    assert perplexity_by_counting("abaab", "ab", 1, vocab_size=4) == pytest.approx(
        (unigram["a"] * unigram["b"]) ** -0.5
    )
    bigram = (2 + 2 * unigram["b"]) / (3 + 2)
    assert perplexity_by_counting("abaab", "ab", 2, vocab_size=4) == pytest.approx(1 / bigram)


def test_memory_task_asks_for_its_symbol():
    (batch,) = recall_minibatches(num_fillers=5, count=1, seed=0, batch_size=50)
    assert batch.X.shape == batch.Y.shape == (50, 16)
    assert {*batch.X[:, 0]} == {0, 1, 2, 3}
    assert {*batch.X[:, 1:6].ravel()} == {*range(4, 12)}
    assert (batch.Y[:, :6] == batch.X[:, 1:7]).all()
    assert (batch.X[:, 6:] == 12).all()
    assert (batch.Y[:, 6:] == batch.X[:, :1]).all()


@pytest.mark.frameworks(by_default=("torch",))
def test_cells_learn_the_memory_task(backend, candidate):
    models = recall_training(candidate, "lstm", num_fillers=2, updates=(1, 60), forget_bias=3)
    early, late = (recall_accuracy(candidate, model, num_fillers=2) for model in models)
    assert early < 0.6
    assert late == 1


@pytest.mark.frameworks(by_default=("torch",))
@pytest.mark.parametrize("model", ["scratch", "fast"])
def test_training_without_detach_changes_the_losses(backend, candidate, model):
    if candidate not in registry.BUILTIN_BACKENDS:
        pytest.skip(f"{candidate} is a backend of another package")
    tokens = np.random.RandomState(0).randint(0, 5, (3, 17), "int64")
    batches = [Batch(tokens[:, i : i + 4], tokens[:, i + 1 : i + 5]) for i in (0, 4, 8, 12)]
    options = ModelConfig(5, 7, dtype="float64")
    arrays = parameters.draw_parameters(options, 1.0, 0)

    def train(reach, update):
        model_to_train = getattr(backend, model).build(arrays, options)
        if reach:
            return train_epoch_not_detached(backend, model_to_train, batches, reach, update)
        return backend.scratch.train_epoch(model_to_train, batches, [update] * 4, True)[0]

    losses = {reach: train(reach, UpdateRule()) for reach in (1, 2, 4)}
    np.testing.assert_allclose(losses[1], train(0, UpdateRule()), rtol=1e-12)
    assert len({f"{sum(values):.6f}" for values in losses.values()}) == 3, losses
    # With constant parameters, detaching does not affect the losses.
    constant = UpdateRule(theta=1e-20)
    for reach in (1, 2, 4):
        np.testing.assert_allclose(train(reach, constant), train(0, constant), rtol=1e-12)
