"""The choice of the next token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rnn_scratch.runs.decoding import greedy, likely, sampler

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


def test_the_seed_determines_the_choices():
    def text(seed, temperature=1.0):
        choose = sampler(temperature, seed)
        return [choose(LOGITS) for _ in range(50)]

    assert text(3) == text(3)
    assert text(3) != text(4)
    assert text(3) != text(3, 0.5)
    assert text(2**32 - 1) == text(2**32 - 1)


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


def test_impossible_tokens_are_never_drawn():
    choose = sampler(1.0, 0)
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    assert {choose(logits) for _ in range(200)} == {1, 3}


WEIGHTS = np.array([0.2, 0.05, 0.4, 0.05, 0.3])


@pytest.mark.parametrize(
    ("conditions", "tokens"),
    [
        ((None, None, None), [0, 1, 2, 3, 4]),
        ((1, None, None), [2]),
        ((3, None, None), [0, 2, 4]),
        ((4, None, None), [0, 1, 2, 4]),  # of two equally likely ones the first
        ((9, None, None), [0, 1, 2, 3, 4]),
        ((None, 0.39, None), [2]),
        ((None, 0.41, None), [2, 4]),  # as few as reach it
        ((None, 0.69, None), [2, 4]),
        ((None, 0.71, None), [0, 2, 4]),
        ((None, 1.0, None), [0, 1, 2, 3, 4]),
        ((None, 1e-300, None), [2]),
        ((None, None, 0.51), [2, 4]),
        ((None, None, 0.5), [0, 2, 4]),  # exactly half of the highest
        ((None, None, 1.0), [2]),
        ((None, None, 1e-300), [0, 1, 2, 3, 4]),
        ((3, 0.41, 0.5), [2, 4]),  # all conditions
        ((1, 0.71, 0.5), [2]),
    ],
)
def test_the_tokens_to_sample_from(conditions, tokens):
    for scale in (1.0, 3.0):  # weights need not be normalized
        assert likely(WEIGHTS * scale, *conditions).tolist() == tokens


def test_samples_are_those_tokens_in_their_proportions():
    choose = sampler(1.0, 0, top_k=2)
    counts = np.bincount([choose(np.log(WEIGHTS)) for _ in range(7_000)], minlength=5)
    assert counts[[0, 1, 3]].sum() == 0
    assert abs(counts[2] - 4_000) < 200
    # The temperature comes first: the hotter, the more tokens the same share takes.
    hot, cold = (sampler(temperature, 0, top_p=0.6) for temperature in (100.0, 0.1))
    assert len({hot(np.log(WEIGHTS)) for _ in range(200)}) == 3
    assert {cold(np.log(WEIGHTS)) for _ in range(200)} == {2}


def test_conditions_that_keep_all_tokens_change_no_choice():
    plain, all_kept = sampler(0.8, 5), sampler(0.8, 5, 5, 1.0, 1e-9)
    assert [plain(LOGITS) for _ in range(200)] == [all_kept(LOGITS) for _ in range(200)]


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
