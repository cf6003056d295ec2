"""Exact mode's digests for the page that trains: `python -m measure digests FILE`.

NumPy trains on the built-in story with each of the settings that the page offers, but for learning
rates and θ of one's own. The record also says which of the first logarithms that are drawn for
starting values the C library does not round to the nearest number, as the page does. It takes some
minutes.
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
from rnn_scratch.system import host
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
    """The digest after each epoch."""
    made = Settings(**{**settings, "num_epochs": EPOCHS, "exact": True})
    setup = set_up(made, Runtime("numpy", threads=1), books.load(books.BUILT_IN))
    epochs = training.epochs(setup)
    return [exact.digest(trained_arrays(setup.model)) for _ in epochs]


def exceptions(points):
    """The points whose logarithms are rounded otherwise: each as its distance from the last one.

    It is negative where the C library's number is the smaller one.
    """
    chance, found, last = generator(0, "initial"), [], 0
    for point in range(points):
        square = 0.0
        while not 0 < square < 1:
            x, y = 2 * chance.random_sample(2) - 1
            square = float(x * x + y * y)
        with localcontext() as context:
            context.prec = DIGITS
            nearest = float(Decimal(square).ln())
        if (own := math.log(square)) != nearest:
            found.append((point - last) * (1 if own > nearest else -1))
            last = point
    return found


def main(file):
    """Train all of them, and write the record."""
    found = {}
    for values in itertools.product(*OFFERED.values()):
        found[" ".join(map(str, values))] = digests(**dict(zip(OFFERED, values)))
        print(*values, found[" ".join(map(str, values))][-1], flush=True)
    record = {
        "machine": host.describe(),
        "offered": OFFERED,
        "digests": found,
        "exceptions": exceptions(POINTS),
    }
    write(file, record)
