"""The odds that exact mode fails, and the effect of its grid: `python tests/tools/odds.py FILE`.

Trains the chapter's model in exact mode with NumPy. At each step the PyTorch backend computes the
gradients of the same parameters, carrying a state of its own; two steps with a difference of d
round to different multiples of the grid with probability d / grid. The sum over all elements of
all steps is the expected number of such divergences in one training.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from rnn_scratch import registry
from rnn_scratch.runs.setup import Place, set_up
from rnn_scratch.settings import make
from rnn_scratch.system import host
from rnn_scratch.text import corpus, minibatches

GRIDS = {f"2**-{bits}": 2.0**-bits for bits in (20, 18, 16, 14)}
MODEL = "fast"  # the same numbers as scratch, in less time


def train(text, settings, grid, compare):
    """Perplexity at the end, summed differences, and in how many updates gradients were clipped."""
    setup = set_up(settings, Place("numpy", MODEL, "cpu", threads=1), text)
    scratch, model = setup.backend.scratch, setup.model
    other, _ = registry.start("torch", 1)
    difference, clipped, updates, losses = 0.0, 0, 0, []
    for epoch in range(1, settings.num_epochs + 1):
        state = model.state(settings.batch_size)
        other_state = tuple(other.machine.tensor(s, "cpu") for s in state)
        losses = []
        for X, Y in minibatches.of_epoch(setup.text.train, settings, epoch):
            loss, grads, state = scratch.gradients(model, X, Y, state)
            grads, norm = scratch.clip(grads, settings.theta)
            if compare:
                other_model = getattr(other, MODEL).build(model.params, model.options)
                tokens, targets = other.machine.tensor(X, "cpu"), other.machine.tensor(Y, "cpu")
                _, other_grads, other_state = other.scratch.gradients(
                    other_model, tokens, targets, other_state
                )
                other_grads, _ = other.scratch.clip(other_grads, settings.theta)
                difference += sum(
                    np.abs(grads[name] - other.machine.array(other_grads[name])).sum()
                    for name in grads
                )
            scratch.update(model.params, grads, settings.lr, grid)
            losses.append(loss)
            clipped, updates = clipped + bool(norm > settings.theta), updates + 1
        if epoch % 50 == 0:
            print(epoch, math.exp(sum(losses) / len(losses)), difference, file=sys.stderr)
    return math.exp(sum(losses) / len(losses)), difference, f"{clipped} of {updates}"


def measure(text, settings):
    """The record of the odds."""
    results = {
        "2**-16": train(text, settings, GRIDS["2**-16"], compare=True),
        "2**-20": train(text, settings, GRIDS["2**-20"], compare=False),
        "no grid": train(text, settings, None, compare=False),
    }
    difference = results["2**-16"][1]
    return {
        "settings": settings.__dict__,
        "model": MODEL,
        "machine": host.describe(),
        "expected divergences in one training, NumPy and PyTorch": {
            name: difference / grid for name, grid in GRIDS.items()
        },
        "perplexity after the last epoch": {name: each[0] for name, each in results.items()},
        "updates in which gradients were clipped": {
            name: each[2] for name, each in results.items()
        },
    }


def main():
    """Measure the chapter's training, and write the record."""
    record = measure(corpus.load("time-machine", print), make({"exact": True}))
    Path(sys.argv[1]).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
