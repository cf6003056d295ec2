"""The check on an emulated device, and what is copied there and back; a program for tests."""

import importlib
import sys

import emulated
import numpy as np

from rnn_scratch.check import epochs, machine, runner
from rnn_scratch.check.inputs import DEEP, make_case
from rnn_scratch.check.results import fact
from rnn_scratch.contract import Rates, Update

# Not in float64, where MXNet gets a number of `how` as an array in each update.
OPTIONS = DEEP._replace(cell="lstm", dtype="float32")
# What takes long, and has no tensors that others lack: `transfers` trains for an epoch.
OMITTED = (*epochs.TRAINING[1:], machine.set_eager, machine.multiply, machine.synchronize)
NUMBER = 3  # of minibatches, and of tokens


def copied():
    """How many tensors have been copied to the device and to the host."""
    return emulated.transfers["to device"], emulated.transfers["to host"]


def transfers(case):
    """A minibatch is copied to the device once, and back only what has to be read, when it has."""
    rates = Rates(*[np.asarray(0.1, case.options.dtype)] * 3)
    some = epochs.first_batches(case, epochs.SEQUENTIAL, NUMBER)
    batches = [batch._replace(rates=rates) for batch in some]
    of_each, states = 5 + bool(case.options.dropout), case.options.num_states
    how, counts = Update(theta=1.0, optimizer="adam"), []

    def watched():
        for batch in batches:
            counts.append(copied())
            yield batch

    def row(name, expected):
        counts.append(copied())
        return fact(name, counts == expected, f"{counts} instead of {expected}, to and from it")

    _, arrays = epochs.built_in_text(case.options)
    model = case.model(arrays, optimizer="adam")
    case.scratch.train_epoch(model, iter(batches), how, True)  # compiles, and copies constants
    emulated.transfers.clear()
    with emulated.explicit():
        case.scratch.train_epoch(model, watched(), how, True)
    to_device = [states * (n > 0) + of_each * n for n in range(NUMBER)]
    expected = [*((n, 0) for n in to_device), (states + of_each * NUMBER, NUMBER)]
    yield row("copies in training", expected)
    emulated.transfers.clear()
    counts.clear()
    tokens = (batch._replace(masks=None, rates=None) for batch in batches)
    case.backend.deep.evaluate(model, tokens)
    yield row("copies in evaluation", [(states + 2 * NUMBER, NUMBER)])
    emulated.transfers.clear()
    counts.clear()
    case.scratch.predict(model, (0, 1), NUMBER, lambda logits: 0)
    yield row("copies in prediction", [(states + 1 + NUMBER, NUMBER)])


def main(package, name, device, *variants):
    """Print the rows that fail, of these variants of a backend in this package, and a last line."""
    backend, options = importlib.import_module(package), OPTIONS._replace(device=device)
    backend.machine.set_threads(1)  # before anything is computed
    for variant in variants:
        rows = runner.check(name, backend, variant, [options], omit=OMITTED)
        for row in (*rows, *make_case(name, backend, variant, options).rows(transfers)):
            if not row.passed:
                print(row.piece, row.sentence, sep=": ")
    print("checked", *variants)


if __name__ == "__main__":
    main(*sys.argv[1:])
