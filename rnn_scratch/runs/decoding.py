"""The choice of the next token from the logits, the same for every backend."""

from collections.abc import Callable

import numpy as np

from ..chance import generator

Choice = Callable[[np.ndarray], int]


def greedy(logits: np.ndarray) -> int:
    """The most likely token; the first one if several are equally likely."""
    return int(np.argmax(logits))


def sampler(temperature: float, seed: int) -> Choice:
    """A function that samples a token from softmax(logits / temperature).

    The chapter's exercise samples from P(x)^α, normalized: its α is 1 / temperature.
    """
    random = generator(seed, "decoding")

    def choose(logits: np.ndarray) -> int:
        logits = logits.astype(np.float64)
        with np.errstate(over="ignore"):  # near temperature 0 all but the largest go to -inf
            weights = np.exp((logits - logits.max()) / temperature).cumsum()
        # Without the last weight: a sample just below 1 can be rounded up to the sum of all.
        bounds = weights[:-1]
        return int(np.searchsorted(bounds, random.random_sample() * weights[-1], side="right"))

    return choose
