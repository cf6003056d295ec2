"""Random numbers as literals: every NumPy must produce these, and every backend receives them.

Without literals, a change of the core would go unnoticed, because all backends would still agree.
"""

import numpy as np

from rnn_scratch.runs import decoding
from rnn_scratch.system import randomness
from rnn_scratch.text import minibatches


def test_offsets():
    assert [minibatches.draw_offset(35, 0, epoch) for epoch in range(1, 9)] == [
        14, 12, 16, 17, 34, 33, 30, 0,
    ]  # fmt: skip
    assert [minibatches.draw_offset(35, 1, epoch) for epoch in range(1, 5)] == [17, 1, 30, 19]


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
