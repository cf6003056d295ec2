"""Random numbers as literals: every NumPy must produce these, and every backend receives them.

Without literals, a change of the core would go unnoticed, because all backends would still agree.
"""

import numpy as np
import pytest

from rnn_scratch.contract import Options
from rnn_scratch.parameters import initial
from rnn_scratch.runs import decoding
from rnn_scratch.settings import Settings
from rnn_scratch.system import randomness
from rnn_scratch.text import minibatches


def test_offsets():
    assert [minibatches.draw_offset(35, 0, epoch) for epoch in range(1, 9)] == [
        14, 12, 16, 17, 34, 33, 30, 0,
    ]  # fmt: skip
    assert [minibatches.draw_offset(35, 1, epoch) for epoch in range(1, 5)] == [17, 1, 30, 19]


# Tokens 0 to 13, two rows, three steps, seed 7: the starts of the rows of each minibatch.
CUTS = {
    ("sequential", 1): [[1, 7], [4, 10]],
    ("sequential", 2): [[0, 6], [3, 9]],
    ("random", 1): [[1, 7], [10, 4]],
    ("random", 2): [[3, 9], [6, 0]],
}


@pytest.mark.parametrize(("sampling", "epoch"), CUTS)
def test_minibatches(sampling, epoch):
    settings = Settings(batch_size=2, num_steps=3, sampling=sampling, seed=7)
    batches = list(minibatches.of_epoch(np.arange(14), settings, epoch))
    assert len(batches) == 2
    for (X, Y), starts in zip(batches, CUTS[sampling, epoch]):
        assert X.tolist() == [[start, start + 1, start + 2] for start in starts]
        assert Y.tolist() == [[start + 1, start + 2, start + 3] for start in starts]


def test_initial_values():
    expected = {
        "W_xh": [
            [0.001009496327881852, -0.013556277566775615],
            [-0.01119320340757228, 0.002647203810312654],
            [-0.005261122801822055, -0.013659920878952467],
        ],
        "W_hh": [
            [0.0010476637247049463, 0.004579099465391338],
            [0.020820870849942594, -0.01773341853672309],
        ],
        "b_h": [0.0, 0.0],
        "W_hq": [
            [-0.019884221887328822, 0.0002802599622325358, -0.005682567046442825],
            [0.019817794477068905, -0.010759139065454434, -0.01826073971681117],
        ],
        "b_q": [0.0, 0.0, 0.0],
    }
    actual = initial(Options(3, 2), 0.01, 0)
    assert list(actual) == list(expected)
    for name, values in expected.items():
        assert actual[name].dtype == "float64"
        np.testing.assert_allclose(actual[name], values, rtol=0, atol=1e-12)


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
