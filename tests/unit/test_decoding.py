"""The choice of the next token, and the random numbers that it and others draw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rnn_scratch import randomness
from rnn_scratch.runs import decoding
from rnn_scratch.runs.decoding import greedy, sampler

LOGITS = np.array([0.3, -1.2, 2.0, 0.9, 1.1])
finite = {
    dtype: arrays(
        dtype,
        st.integers(1, 8),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=np.finfo(dtype).bits),
    )
    for dtype in ("float32", "float64")
}


def test_greedy_chooses_the_most_likely_token_and_the_first_on_a_tie():
    assert greedy(LOGITS) == 2
    assert greedy(np.array([1.0, 3.0, 2.0, 3.0])) == 1
    assert greedy(np.zeros(4, np.float32)) == 0
    assert type(greedy(LOGITS)) is int


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0])
def test_frequencies_are_those_of_softmax_to_the_power_of_alpha(temperature):
    # The chapter's exercise: P(x)^α, normalized, with α = 1/temperature.
    alpha, draws = 1 / temperature, 20_000
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum()
    expected = probabilities**alpha / (probabilities**alpha).sum()
    choose = sampler(temperature, seed=1)
    counts = np.bincount([choose(LOGITS) for _ in range(draws)], minlength=len(LOGITS))
    chi_square = ((counts - draws * expected) ** 2 / (draws * expected)).sum()
    assert chi_square < 25  # with 4 degrees of freedom, 1 in 20,000 is above


def test_the_same_logits_in_float32_give_the_same_choices():
    logits = LOGITS.astype(np.float32)
    one, other = sampler(0.7, 0), sampler(0.7, 0)
    assert [one(logits) for _ in range(200)] == [
        other(logits.astype(np.float64)) for _ in range(200)
    ]


def test_very_cold_is_greedy_and_very_hot_is_uniform():
    cold = sampler(5e-324, 0)
    assert {cold(LOGITS) for _ in range(50)} == {2}
    hot = sampler(1e308, 0)
    counts = np.bincount([hot(LOGITS) for _ in range(5_000)])
    assert (abs(counts - 1000) < 150).all()


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 2}, {1, 2}),
        ({"top_k": 9}, {0, 1, 2, 3}),
        ({"top_p": 0.3}, {1}),
        ({"top_p": 0.6}, {1, 2}),  # fewer have less than that together
        ({"min_p": 0.4}, {1, 2, 3}),  # from 0.16 on
        ({"top_k": 3, "top_p": 0.95, "min_p": 0.7}, {1, 2}),
    ],
    ids=str,
)
def test_what_top_k_top_p_and_min_p_keep(conditions, kept):
    choose = sampler(1.0, 0, **conditions)
    assert {choose(np.log([0.1, 0.4, 0.3, 0.2])) for _ in range(300)} == kept


def test_impossible_tokens_are_never_drawn():
    choose = sampler(1.0, 0)
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    assert {choose(logits) for _ in range(200)} == {1, 3}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.data())
def test_always_an_index_and_never_a_warning(dtype, data):
    logits = data.draw(finite[dtype])
    temperature = data.draw(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
    share = st.none() | st.floats(min_value=0, max_value=1, exclude_min=True)
    conditions = data.draw(st.tuples(st.none() | st.integers(1, 9), share, share))
    choose = sampler(temperature, data.draw(st.integers(0, 2**32 - 1)), *conditions)
    with np.errstate(all="raise", under="ignore"):
        for _ in range(5):
            chosen = choose(logits)
            assert type(chosen) is int
            assert 0 <= chosen < len(logits)
    assert 0 <= greedy(logits) < len(logits)


# Random numbers as literals: every NumPy must produce these, and every backend receives them.


def test_decoding():
    choose = decoding.sampler(1.0, 0)
    logits = np.array([0.0, 1.0, 2.0, 3.0])
    assert [choose(logits) for _ in range(30)] == [
        3, 2, 2, 3, 3, 2, 3, 3, 3, 3, 2, 3, 3, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 3, 1, 2,
    ]  # fmt: skip


def test_each_purpose_seed_and_epoch_has_its_own_stream():
    keys = [(seed, purpose, epoch) for seed in (0, 1) for purpose in randomness.PURPOSES
            for epoch in (0, 1)]  # fmt: skip
    first = [randomness.generator(*key).random_sample() for key in keys]
    assert len(set(first)) == len(keys)
    assert [randomness.generator(*key).random_sample() for key in keys] == first
    randomness.generator(2**32 - 1, "offset", 2**32 - 1)
