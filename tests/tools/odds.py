"""How often exact mode fails, and what its grid costs: `python tests/tools/odds.py FILE`.

Trains the chapter's model in exact mode with NumPy. At each step the PyTorch backend computes the
gradients of the very same parameters, carrying a state of its own; two steps a distance d apart
round to different multiples of the grid with probability d / grid. The sum over all elements of
all steps is how many such partings are to be expected in one training.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from rnn_scratch import registry
from rnn_scratch.contract import Options
from rnn_scratch.initial import initial
from rnn_scratch.settings import make
from rnn_scratch.system import host
from rnn_scratch.text import corpus, dataset, minibatches

GRIDS = {f"2**-{bits}": 2.0**-bits for bits in (20, 18, 16, 14)}


def train(prepared, settings, grid, compare):
    """Perplexity at the end, summed distances, and in how many of the updates the clip acted."""
    numpy, torch = registry.load("numpy"), registry.load("torch")
    options = Options("tanh", "float64", "cpu")
    arrays = initial(len(prepared.vocab), settings.num_hiddens, settings.sigma, settings.seed)
    model = numpy.scratch(arrays, options)
    distance, clipped, updates = 0.0, 0, 0
    for epoch in range(1, settings.num_epochs + 1):
        state = model.state(settings.batch_size, settings.num_hiddens, options)
        other_state = tuple(torch.tensor(s, "cpu") for s in state)
        summed = count = 0
        for X, Y in minibatches.of_epoch(
            prepared.train, settings.batch_size, settings.num_steps, "sequential", 0, epoch
        ):
            loss, grads, state = numpy.gradients(model, X, Y, state)
            grads, norm = numpy.clip(grads, settings.theta)
            if compare:
                other = torch.scratch(model.params, options)
                tokens, targets = torch.tensor(X, "cpu"), torch.tensor(Y, "cpu")
                _, found, other_state = torch.gradients(other, tokens, targets, other_state)
                found, _ = torch.clip(found, settings.theta)
                distance += sum(np.abs(grads[n] - torch.array(found[n])).sum() for n in grads)
            numpy.update(model.params, grads, settings.lr, grid)
            summed, count = summed + loss * X.size, count + X.size
            clipped, updates = clipped + bool(norm > settings.theta), updates + 1
        if epoch % 50 == 0:
            print(epoch, math.exp(summed / count), distance, file=sys.stderr, flush=True)
    return math.exp(summed / count), distance, f"{clipped} of {updates}"


def main():
    """Measure, and write the record."""
    settings = make({"exact": True})
    prepared = dataset.prepare(corpus.load("time-machine", print), settings)
    for name in ("numpy", "torch"):
        registry.load(name).set_threads(1)
    trained = {
        "2**-16": train(prepared, settings, GRIDS["2**-16"], compare=True),
        "2**-20": train(prepared, settings, GRIDS["2**-20"], compare=False),
        "no grid": train(prepared, settings, None, compare=False),
    }
    distance = trained["2**-16"][1]
    record = {
        "settings": settings.__dict__,
        "machine": host.describe(),
        "expected partings in one training, NumPy and PyTorch": {
            name: distance / grid for name, grid in GRIDS.items()
        },
        "perplexity after the last epoch": {name: found[0] for name, found in trained.items()},
        "updates in which the clip acted": {name: found[2] for name, found in trained.items()},
    }
    Path(sys.argv[1]).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
