"""Measurements quoted in lessons: memory, counting, and training without detaching."""

import numpy as np
import pytest
from measure.exercises import train_epoch_not_detached

from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, ModelConfig, UpdateRule
from rnn_scratch.support.experiments import (
    choose_ngrams,
    copied_share,
    count_ngrams,
    ngram_probability,
    recall_accuracy,
    recall_minibatches,
    recall_training,
)
from rnn_scratch.text import books


def test_kneser_ney_smoothing_follows_its_formula():
    # In "abaab", "ab" occurs twice, "aa" and "ba" once. The discounts are 1 and 0.5, as the text is
    # too short to compute them. One character precedes "b", two precede "a", each with 1/4 below.
    tables = count_ngrams("abaab", 2)
    unigram = (1 - 0.5) / 3 + (1 + 0.5) / 3 / 4
    assert ngram_probability(tables, "", "b", vocab_size=4) == pytest.approx(unigram)
    assert ngram_probability(tables, "a", "b", vocab_size=4) == pytest.approx(1 / 3 + unigram / 2)
    assert ngram_probability(tables, "a", "b", vocab_size=4) == pytest.approx(1 / 3 + 7 / 48)


def test_kneser_ney_discounts_follow_the_counts_of_counts():
    # Two characters occur once, and one each occurs twice, three and four times, so Y = 2 / 4 and
    # the discounts are 0.5, 0.5 and 1; the rest of the probability is 3.5 / 11.
    tables = count_ngrams("abccdddeeee", 1)
    for character, kept in zip("abcdez", (0.5, 0.5, 1.5, 2, 3, 0)):
        probability = ngram_probability(tables, "", character, vocab_size=7)
        assert probability == pytest.approx((kept + 3.5 / 7) / 11), character


def test_ngram_probabilities_add_up_to_one():
    text = books.load(books.BUILT_IN).content[:20_000]
    tables, characters = count_ngrams(text, 4), {*text}
    for context in ("", "e", "the", "zqx"):
        total = sum(ngram_probability(tables, context, c, len(characters)) for c in characters)
        assert total == pytest.approx(1), context


def test_longer_contexts_are_chosen_if_they_help():
    n, found = choose_ngrams("abcacb" * 50, "abcacb" * 5, (1, 2, 3), vocab_size=3)
    assert n == 3
    assert found[1] > found[2] > found[3] >= 1


def test_only_long_copied_passages_count():
    assert copied_share("xxabcdyybcx", "abcde", length=3) == pytest.approx(4 / 11)


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
