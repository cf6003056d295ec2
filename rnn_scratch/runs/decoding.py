"""The choice of the next token from the logits: the same logits give the same text everywhere."""

from collections.abc import Callable

import numpy as np

from ..chance import generator

Choice = Callable[[np.ndarray], int]


def greedy(logits: np.ndarray) -> int:
    """The most likely token; the first of them on a tie."""
    return int(np.argmax(logits))


def sampler(temperature: float, seed: int) -> Choice:
    """A choice that draws from softmax(logits / temperature).

    The chapter's exercise draws from P(x)^α, normalised: its α is 1 / temperature.
    """
    chance = generator(seed, "decoding")

    def choose(logits: np.ndarray) -> int:
        logits = logits.astype(np.float64)
        with np.errstate(over="ignore"):  # near temperature 0 all but the largest go to -inf
            weights = np.exp((logits - logits.max()) / temperature).cumsum()
        # The cap: a draw just below 1 can be rounded up to the sum of all weights.
        below = weights[:-1]
        return int(np.searchsorted(below, chance.random_sample() * weights[-1], side="right"))

    return choose
