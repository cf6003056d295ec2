"""The growth of a difference in the state, and whether frameworks stay equal, for larger weights.

`python -m measure growth FILE` writes the record of which chapter and pages draw a picture.
Growth is that before training, by NumPy. For equality NumPy is trained in exact mode beside each
other framework, on the same minibatches, until their parameters differ. It takes some minutes.
"""

import numpy as np

from measure.measuring import rounded, write
from rnn_scratch import registry
from rnn_scratch.check import growth
from rnn_scratch.runs import schedule
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings, update_rule
from rnn_scratch.text import books, minibatches

CELLS = ("rnn", "gru", "lstm")
UNITS = 128
SCALES = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.3, 2.6, 3, 3.5, 4, 4.5, 5, 5.7)  # sigma sqrt(H)
TRAINED = (1.5, 2.3, 3, 3.5, 4, 5, 5.7)  # of these
EPOCHS = 4
NUMPY = Runtime("numpy", device="cpu", threads=1)


def settings(cell, scale):
    """Return the chapter's settings in exact mode, with fewer units and larger weights."""
    sigma = round(scale / UNITS**0.5, 4)
    return Settings(exact=True, cell=cell, num_hiddens=UNITS, sigma=sigma, num_epochs=EPOCHS)


def equal_updates(made, name, text):
    """Count the updates after which NumPy and this framework were equal, and the updates made."""
    setups = [set_up(made, NUMPY.but(backend=backend), text) for backend in ("numpy", name)]
    updates = 0
    for epoch in range(1, made.num_epochs + 1):
        states = [setup.model.state(made.batch_size) for setup in setups]
        batches = minibatches.epoch_batches(setups[0].dataset.train, made, epoch)
        for batch in schedule.with_rates(batches, made, updates, 0):
            for number, setup in enumerate(setups):
                tensors = batch.map(setup.backend.machine.tensor, "cpu")
                _, states[number] = setup.backend.scratch.train_minibatch(
                    setup.model, tensors, states[number], update_rule(made)
                )
            arrays, others = (setup.model.to_arrays(setup.model.params) for setup in setups)
            if any(not np.array_equal(arrays[param], others[param]) for param in arrays):
                return updates, updates + 1
            updates += 1
    return updates, updates


def main(file):
    """Measure everything, and write the record."""
    text = books.load("time-machine")
    environment = {}
    for name in registry.OURS:
        backend, _ = registry.start(name, threads=1)
        environment |= backend.machine.environment()
    record = {
        "environment": environment,
        "settings": settings("rnn", 1),  # for one cell and one scale
        "growth": {
            cell: [
                [scale, rounded(growth.growth(set_up(settings(cell, scale), NUMPY, text)))]
                for scale in SCALES
            ]
            for cell in CELLS
        },
        "equal": {
            name: [[scale, *equal_updates(settings("rnn", scale), name, text)] for scale in TRAINED]
            for name in registry.OURS[1:]
        },
    }
    write(file, record)
