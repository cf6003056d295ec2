"""Measure how errors grow, and whether frameworks stay equal, with larger initial weights.

`python -m measure growth FILE` writes the record that a lesson and a page quote. NumPy measures the
growth of rounding errors before training. To test for equality, NumPy and each other framework
train in exact mode on the same minibatches until their parameters differ. Allow a few minutes.
"""

import numpy as np

from measure.measuring import rounded, write
from rnn_scratch import registry
from rnn_scratch.check import growth
from rnn_scratch.exact import STATE_GRID
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, minibatches
from rnn_scratch.training import schedule
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

CELLS = ("rnn", "gru", "lstm", "rnn-relu")
UNITS = 128
SCALES = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.3, 2.6, 3, 3.5, 4, 4.5, 5, 5.7)  # sigma sqrt(H)
TRAINED = (1.5, 2.3, 3, 3.5, 4, 5, 5.7)  # scales at which frameworks are compared
EPOCHS = 4
NUMPY = Runtime("numpy", device="cpu", threads=1)


def settings(cell, scale):
    """Return the chapter's settings in exact mode, with fewer units and larger initial weights."""
    sigma = round(scale / UNITS**0.5, 4)
    return Settings(exact=True, cell=cell, num_hiddens=UNITS, sigma=sigma, num_epochs=EPOCHS)


def equal_updates(settings, name, text):
    """Return the number of updates after which parameters equal NumPy's, and the total number."""
    runtimes = [NUMPY.override(backend=backend) for backend in ("numpy", name)]
    setups = [prepare_run(settings, runtime, text) for runtime in runtimes]
    updates = 0
    for epoch in range(1, settings.num_epochs + 1):
        states = [setup.model.state(settings.batch_size) for setup in setups]
        batches = minibatches.epoch_batches(setups[0].dataset.train, settings, epoch)
        rules = schedule.each_update(settings, updates, updates + 1)
        for batch, update in zip(batches, rules):
            for index, setup in enumerate(setups):
                tensors = batch.map(setup.backend.machine.tensor, "cpu")
                _, state = setup.backend.scratch.train_minibatch(
                    setup.model, tensors, states[index], update
                )
                states[index] = tuple(
                    setup.backend.exact.round_to_grid(tensor, STATE_GRID) for tensor in state
                )
            expected, actual = (setup.model.to_arrays(setup.model.params) for setup in setups)
            if any(not np.array_equal(expected[param], actual[param]) for param in expected):
                return updates, updates + 1
            updates += 1
    return updates, updates


def main(file):
    """Make all measurements, and write the record to `file`."""
    text = books.load("time-machine")
    record = {
        "growth": {
            cell: [
                [
                    scale,
                    rounded(growth.measure_growth(prepare_run(settings(cell, scale), NUMPY, text))),
                ]
                for scale in SCALES
            ]
            for cell in CELLS
        },
        "equal": {
            name: [[scale, *equal_updates(settings("rnn", scale), name, text)] for scale in TRAINED]
            for name in registry.BUILTIN_BACKENDS[1:]
        },
    }
    write(file, record)
