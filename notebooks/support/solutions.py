"""Solutions to exercises on functions that no backend has.

The files `attend_*.py` have one solution per backend, because it uses the framework's operations.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy


def find(name: str, backend: str) -> Callable[..., Any]:
    """Return the solution of the exercise `name`."""
    module = f".attend_{backend}" if name == "attend" else ".solutions"
    return getattr(importlib.import_module(module, __package__), name)


def best_run(histories):
    """Return the name of the run whose best epoch has the lowest held-out loss.

    `histories` maps names to lists of epochs. An epoch has a `loss` and a `valid_loss`.
    """
    return min(histories, key=lambda name: min(epoch.valid_loss for epoch in histories[name]))


def next_probabilities(logits, temperature, top_p):
    """Return the probabilities (V,) from which the next character is drawn."""
    powers = numpy.exp((logits - logits.max()) / temperature)
    order = powers.argsort()[::-1]
    sums = powers[order].cumsum() / powers.sum()
    num_kept = (sums < top_p).sum() + 1
    powers[order[num_kept:]] = 0
    return powers / powers.sum()


def faster_logits(tokens, h, params):
    """Return the result of `plain_logits`, with a product only where the recurrence needs one."""
    inputs = params["W_xh"][tokens.T] + params["b_h"]  # (T, B, H)
    states = []
    for x in inputs:
        h = numpy.tanh(x + h @ params["W_hh"])
        states.append(h)
    return numpy.concatenate(states) @ params["W_hq"] + params["b_q"]
