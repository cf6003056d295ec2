"""Next-token selection and random number streams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rnn_scratch import randomness
from rnn_scratch.training import decoding
from rnn_scratch.training.decoding import greedy, sampler

LOGITS = np.array([0.3, -1.2, 2.0, 0.9, 1.1])
finite = {
    dtype: arrays(
        dtype,
        st.integers(2, 8),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=np.finfo(dtype).bits),
    )
    for dtype in ("float32", "float64")
}


def test_greedy_chooses_the_most_likely_token():
    assert greedy(LOGITS) == 2
    assert greedy(np.array([1.0, 3.0, 2.0, 3.0])) == 1
    assert greedy(np.zeros(4, np.float32)) == 1
    assert greedy(np.array([9.0, 1.0, 2.0])) == 2  # token 0 is <unk>
    assert type(greedy(LOGITS)) is int


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0])
def test_frequencies_follow_softmax_to_the_power_of_alpha(temperature):
    # The chapter's exercise: P(x)^α, normalized, with α = 1/temperature.
    alpha, draws = 1 / temperature, 20_000
    probabilities = np.exp(LOGITS[1:]) / np.exp(LOGITS[1:]).sum()
    expected = probabilities**alpha / (probabilities**alpha).sum()
    choose = sampler(temperature, seed=1)
    counts = np.bincount([choose(LOGITS) for _ in range(draws)], minlength=len(LOGITS))
    assert counts[0] == 0  # token 0 is <unk>
    counts = counts[1:]
    chi_square = ((counts - draws * expected) ** 2 / (draws * expected)).sum()
    assert chi_square < 22.5  # p = 5e-5 with 3 degrees of freedom


@pytest.mark.parametrize(
    ("conditions", "candidates"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 2}, {1, 2}),
        ({"top_k": 9}, {0, 1, 2, 3}),
        ({"top_p": 0.3}, {1}),
        ({"top_p": 0.6}, {1, 2}),
        ({"min_p": 0.4}, {1, 2, 3}),  # threshold 0.16
        ({"top_k": 3, "top_p": 0.95, "min_p": 0.7}, {1, 2}),
    ],
    ids=str,
)
def test_conditions_limit_the_drawn_tokens(conditions, candidates):
    choose = sampler(1.0, 0, **conditions)
    assert {choose(np.log([0.9, 0.1, 0.4, 0.3, 0.2])) - 1 for _ in range(300)} == candidates


def test_tokens_with_zero_probability_are_never_drawn():
    choose = sampler(1.0, 0)
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    assert {choose(logits) for _ in range(200)} == {1, 3}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.data())
def test_sampler_returns_an_index_without_warnings(dtype, data):
    logits = data.draw(finite[dtype])
    temperature = data.draw(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
    fractions = st.none() | st.floats(min_value=0, max_value=1, exclude_min=True)
    conditions = data.draw(st.tuples(st.none() | st.integers(1, 9), fractions, fractions))
    choose = sampler(temperature, data.draw(st.integers(0, 2**32 - 1)), *conditions)
    with np.errstate(all="raise", under="ignore"):
        for _ in range(5):
            token = choose(logits)
            assert type(token) is int
            assert 1 <= token < len(logits)
    assert 1 <= greedy(logits) < len(logits)


# Pinned random numbers, which must not depend on the NumPy version or the backend.


def test_sampled_tokens_are_pinned():
    choose = decoding.sampler(1.0, 0)
    logits = np.array([9.0, 0.0, 1.0, 2.0, 3.0])
    assert [choose(logits) - 1 for _ in range(30)] == [
        3, 2, 2, 3, 3, 2, 3, 3, 3, 3, 2, 3, 3, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 3, 1, 2,
    ]  # fmt: skip


def test_streams_of_random_numbers_differ():
    keys = [(seed, purpose, epoch) for seed in (0, 1) for purpose in randomness.PURPOSES
            for epoch in (0, 1)]  # fmt: skip
    values = [randomness.generator(*key).random_sample() for key in keys]
    assert len(set(values)) == len(keys)
    assert [randomness.generator(*key).random_sample() for key in keys] == values
    randomness.generator(2**32 - 1, "offset", 2**32 - 1)
