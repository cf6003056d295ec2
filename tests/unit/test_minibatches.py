"""Minibatches: sequential partitioning, random sampling, and the minimum text length."""

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import minibatches

SAMPLINGS = ["sequential", "random"]
sizes = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)


def min_tokens(batch_size, num_steps):
    """Return the smallest number of tokens that `require` accepts."""
    for num_tokens in itertools.count():
        with contextlib.suppress(RNNScratchError):
            minibatches.require(num_tokens, batch_size, num_steps)
            return num_tokens


def cut(tokens, batch_size, num_steps, sampling, offset):
    if sampling == "sequential":
        return list(minibatches.sequential(tokens, batch_size, num_steps, offset))
    rng = np.random.RandomState(0)
    return list(minibatches.random(tokens, batch_size, num_steps, offset, 0, rng))


def evaluation_batches(num_tokens, batch_size, num_steps):
    settings = Settings(batch_size=batch_size, num_steps=num_steps)
    return list(minibatches.evaluation_batches(np.arange(num_tokens), settings))


# In these tests, each token's value is its position in the text.


@given(sizes, sizes, st.integers(0, 60), st.sampled_from(SAMPLINGS), seeds, st.integers(1, 9))
def test_targets_follow_inputs_by_one_token(B, T, num_more, sampling, seed, epoch):
    tokens = np.arange(min_tokens(B, T) + num_more, dtype="u1")
    settings = Settings(batch_size=B, num_steps=T, sampling=sampling, seed=seed)
    batches = list(minibatches.epoch_batches(tokens, settings, epoch))
    assert len(batches) == minibatches.count(len(tokens), settings, epoch) > 0
    for X, Y, *_ in batches:
        assert X.shape == Y.shape == (B, T)
        assert X.dtype == Y.dtype == "int64"
        assert X.flags.c_contiguous
        assert Y.flags.c_contiguous
        np.testing.assert_array_equal(Y, X + 1)
        np.testing.assert_array_equal(X, X[:, :1] + np.arange(T))
        assert X.min() >= minibatches.draw_offset(T, seed, epoch)
        assert Y.max() < len(tokens)


@given(sizes, sizes, st.integers(0, 60), st.data())
def test_sequential_rows_continue_in_the_next_minibatch(B, T, num_more, data):
    offset = data.draw(st.integers(0, T - 1))
    batches = cut(np.arange(min_tokens(B, T) + num_more), B, T, "sequential", offset)
    assert batches[0][0][0, 0] == offset
    for (X, *_), (following, *_) in itertools.pairwise(batches):
        np.testing.assert_array_equal(following[:, 0], X[:, -1] + 1)
    # The rows are equal parts of the text, cut into minibatches; the remainder is dropped.
    length = (min_tokens(B, T) + num_more - offset - 1) // B
    np.testing.assert_array_equal(batches[0][0][:, 0], offset + length * np.arange(B))
    assert len(batches) == length // T


@given(sizes, sizes, st.integers(0, 60), st.data())
def test_random_sampling_repeats_no_subsequence(B, T, num_more, data):
    offset = data.draw(st.integers(0, T - 1))
    tokens = np.arange(min_tokens(B, T) + num_more)
    starts = [int(row[0]) for X, *_ in cut(tokens, B, T, "random", offset) for row in X]
    assert len(set(starts)) == len(starts)
    assert all((start - offset) % T == 0 for start in starts)
    available = (len(tokens) - offset - 1) // T
    assert available - B < len(starts) <= available


@pytest.mark.parametrize("sampling", SAMPLINGS)
@given(B=sizes, T=sizes)
def test_shortest_text_makes_a_minibatch_at_every_offset(sampling, B, T):
    enough = np.arange(min_tokens(B, T))
    counts = [len(cut(enough, B, T, sampling, offset)) for offset in range(T)]
    assert min(counts) >= 1
    counts = [len(cut(enough[:-1], B, T, sampling, offset)) for offset in range(T)]
    assert min(counts) == 0


@given(sizes, sizes, st.integers(0, 60), seeds)
def test_total_count_is_the_sum_of_all_epochs(B, T, num_more, seed):
    num_tokens, settings = (
        min_tokens(B, T) + num_more,
        Settings(batch_size=B, num_steps=T, seed=seed),
    )
    counts = [minibatches.count(num_tokens, settings, epoch) for epoch in range(1, 9)]
    assert minibatches.total_count(num_tokens, settings, 8) == sum(counts)


def test_equal_epochs_are_counted_without_draws(monkeypatch):
    monkeypatch.delattr(np.random, "RandomState")
    assert minibatches.total_count(10_000, Settings(), 10**9) == 8 * 10**9


def test_offsets_are_below_num_steps():
    assert {minibatches.draw_offset(5, 0, epoch) for epoch in range(1, 200)} == {0, 1, 2, 3, 4}
    assert {minibatches.draw_offset(1, 0, epoch) for epoch in range(1, 20)} == {0}


@given(st.integers(2, 120), sizes, sizes)
def test_evaluation_batches_omit_few_tokens_at_the_end(num_tokens, B, T):
    batches = evaluation_batches(num_tokens, B, T)
    targets = np.concatenate([Y.ravel() for _, Y, *_ in batches])
    assert len(set(targets)) == len(targets)
    omitted = set(range(1, num_tokens)) - set(targets.tolist())
    assert len(omitted) <= B - 1
    assert omitted == set(range(num_tokens - len(omitted), num_tokens))
    assert batches[0][0][0, 0] == 0
    for X, Y, *_ in batches:
        np.testing.assert_array_equal(Y, X + 1)
    for (X, *_), (following, *_) in itertools.pairwise(batches):
        np.testing.assert_array_equal(following[:, 0], X[:, -1] + 1)
        assert X.shape[1] == T
    assert 1 <= batches[-1][0].shape[1] <= T


@pytest.mark.parametrize("num_tokens", [0, 1])
def test_empty_text_has_no_evaluation_batches(num_tokens):
    assert evaluation_batches(num_tokens, 4, 3) == []
