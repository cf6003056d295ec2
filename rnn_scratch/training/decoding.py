"""Decoding: choose the next token from the logits, identically for all backends.

Token 0, ``<unk>``, does not occur in texts and is never chosen.
"""

from collections.abc import Callable

import numpy as np

from ..randomness import generator


def greedy(logits: np.ndarray) -> int:
    """Return the most likely token, or the first of several equally likely tokens."""
    return 1 + int(np.argmax(logits[1:]))


def sampler(
    temperature: float,
    seed: int,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Callable[[np.ndarray], int]:
    """Return a function that samples a token from softmax(logits / temperature).

    The chapter's exercise samples in proportion to P(x)^α, with α = 1 / temperature. With `top_k`,
    `top_p` or `min_p`, the function samples only from the tokens that `likely_tokens` keeps.
    """
    random = generator(seed, "decoding")

    def choose_token(logits: np.ndarray) -> int:
        logits = logits[1:].astype(np.float64)
        with np.errstate(over="ignore"):  # near temperature 0, exponents overflow to -inf
            weights = np.exp((logits - logits.max()) / temperature)
        tokens = likely_tokens(weights, top_k, top_p, min_p)
        sums = weights[tokens].cumsum()
        # Omit the last sum: with a sample just below 1, the product can round up to the total.
        position = np.searchsorted(sums[:-1], random.random_sample() * sums[-1], side="right")
        return 1 + int(tokens[position])

    return choose_token


def likely_tokens(
    weights: np.ndarray, top_k: int | None, top_p: float | None, min_p: float | None
) -> np.ndarray:
    """Return the sorted indices to sample from; `weights` are proportional to probabilities.

    `top_k` keeps the k most likely tokens (Fan et al., 2018). `top_p` keeps the nucleus, the
    smallest set of most likely tokens whose probabilities add up to p (Holtzman et al., 2020).
    `min_p` keeps tokens at least p times as likely as the most likely token (Nguyen et al., 2024).
    A token must meet all conditions; the most likely token always does.
    """
    order = np.argsort(-weights, kind="stable")
    count = len(order)
    if top_k is not None:
        count = min(count, top_k)
    if top_p is not None:
        sums = weights[order].cumsum()
        count = min(count, int(np.searchsorted(sums, top_p * sums[-1])) + 1)
    if min_p is not None:
        count = min(count, int((weights >= min_p * weights.max()).sum()))
    return np.sort(order[:count])
