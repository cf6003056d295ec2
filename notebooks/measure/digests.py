"""Exact mode's digests for the page that trains: `python -m measure digests FILE`.

NumPy trains on the built-in story with each of the settings that the page offers, except learning
rates and θ that a reader enters. The record also says which of the first logarithms that are drawn
for starting values the C library does not round to the nearest number, as the page does. It takes
some minutes.
"""

import itertools
import math
from decimal import Decimal, localcontext

from measure.measuring import write
from rnn_scratch import exact
from rnn_scratch.parameters import trained_arrays
from rnn_scratch.randomness import generator
from rnn_scratch.runs import training
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings
from rnn_scratch.text import books

OFFERED = {
    "cell": ("rnn", "gru-after", "lstm"),
    "num_hiddens": (16, 32, 64, 128),
    "optimizer": ("sgd", "adam"),
    "sampling": ("sequential", "random"),
}
EPOCHS = 20
POINTS = 2**18  # of the disc, two numbers each: as many as the page's largest networks take
DIGITS = 40  # of a logarithm, of which a float64 has 16


def digests(**settings):
    """Train, and return the digest after each epoch."""
    made = Settings(**settings, num_epochs=EPOCHS, exact=True)
    setup = set_up(made, Runtime("numpy", threads=1), books.load(books.BUILT_IN))
    epochs = training.epochs(setup)
    return [exact.digest(trained_arrays(setup.model)) for _ in epochs]


def exceptions(points):
    """Return the points whose logarithms are rounded otherwise, each as its distance from the last.

    The distance is negative where the C library's number is the smaller one.
    """
    chance, distances, last = generator(0, "initial"), [], 0
    for point in range(points):
        square = 0.0
        while not 0 < square < 1:
            x, y = 2 * chance.random_sample(2) - 1
            square = float(x * x + y * y)
        with localcontext() as context:
            context.prec = DIGITS
            nearest = float(Decimal(square).ln())
        if (log := math.log(square)) != nearest:
            distances.append((point - last) * (1 if log > nearest else -1))
            last = point
    return distances


def main(file):
    """Train with all settings, and write the record."""
    record = {"offered": OFFERED, "digests": {}, "exceptions": exceptions(POINTS)}
    for values in itertools.product(*OFFERED.values()):
        name = " ".join(map(str, values))
        record["digests"][name] = digests(**dict(zip(OFFERED, values)))
        print(name, record["digests"][name][-1], flush=True)
    write(file, record)
