"""Record digests in exact mode for the page that trains networks: `python -m measure digests FILE`.

NumPy trains on the built-in story with all combinations of the settings that the page offers, but
only with the default learning rate, θ and seed. The runs take a few minutes in total.
"""

import itertools

from measure.measuring import write
from rnn_scratch import exact
from rnn_scratch.parameters import trained_arrays
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.training import loop as training
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

OFFERED = {
    "cell": ("rnn", "gru-after", "lstm"),
    "num_hiddens": (16, 32, 64, 128),
    "optimizer": ("sgd", "adam"),
    "sampling": ("sequential", "random"),
}
EPOCHS = 20


def digests(**changes):
    """Train with `changes` to the default settings; return the digest after each epoch."""
    settings = Settings(**changes, num_epochs=EPOCHS, exact=True)
    setup = prepare_run(settings, Runtime("numpy", threads=1), books.load(books.BUILT_IN))
    epochs = training.epochs(setup)
    return [exact.digest(trained_arrays(setup.model)) for _ in epochs]


def main(file):
    """Train with all combinations of settings, and write the record to `file`."""
    record = {"offered": OFFERED, "digests": {}}
    for values in itertools.product(*OFFERED.values()):
        name = " ".join(map(str, values))
        record["digests"][name] = digests(**dict(zip(OFFERED, values)))
        print(name, record["digests"][name][-1], flush=True)
    write(file, record)
