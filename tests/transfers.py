"""A check on an emulated device, and of what is copied there and back; a program for tests."""

import importlib
import sys

import emulated
import numpy as np

from rnn_scratch.check import epochs, machine, runner
from rnn_scratch.check.inputs import DEEP, PLAIN, make_case
from rnn_scratch.check.results import fact
from rnn_scratch.contract import Rates, Update

# Not in float64, where MXNet gets a number of `how` as an array in each update.
OPTIONS = DEEP._replace(cell="lstm", dtype="float32")
# What takes long, and has no tensors that others lack.
OMITTED = (*epochs.TRAINING[1:], machine.set_eager, machine.multiply, machine.synchronize)
HOW = Update(theta=1.0, optimizer="adam")
NUMBER = 3  # of minibatches, and of tokens


def model_and_batches(case):
    """A model of the built-in text, and minibatches for Adam."""
    rates = Rates(*[np.asarray(0.1, case.options.dtype)] * 3)
    batches = epochs.first_batches(case, epochs.SEQUENTIAL, NUMBER)
    model = case.model(epochs.built_in_text(case.options)[1], optimizer="adam")
    return model, [batch._replace(rates=rates) for batch in batches]


def copied():
    """How many tensors have been copied to the device, and to the host."""
    return emulated.transfers["to device"], emulated.transfers["to host"]


def row(copies, expected):
    """Whether so many have been copied."""
    return fact("copies", copies == expected, f"{copies} instead of {expected}, there and back")


def train_epoch(case):
    """Each minibatch is copied to the device once, and nothing back but the losses, at the end."""
    (model, batches), copies = model_and_batches(case), []

    def watched():
        for batch in batches:
            copies.append(copied())
            yield batch

    case.scratch.train_epoch(model, iter(batches), HOW, True)  # compiles, and copies constants
    emulated.transfers.clear()
    with emulated.explicit():
        case.scratch.train_epoch(model, watched(), HOW, True)
    states, each = case.options.num_states, 6  # X, Y, masks and three rates
    before = [(states * (n > 0) + each * n, 0) for n in range(NUMBER)]
    yield row([*copies, copied()], [*before, (states + each * NUMBER, NUMBER)])


def evaluate(case):
    """Of each minibatch the tokens are copied to the device, and the loss to the host."""
    model, batches = model_and_batches(case)
    tokens = (batch._replace(masks=None, rates=None) for batch in batches)
    emulated.transfers.clear()
    case.backend.deep.evaluate(model, tokens)
    yield row(copied(), (case.options.num_states + 2 * NUMBER, NUMBER))


def predict(case):
    """Each token is copied to the device, and the logits after the prefix to the host."""
    model, _ = model_and_batches(case)
    emulated.transfers.clear()
    case.scratch.predict(model, (0, 1), NUMBER, lambda logits: 0)
    yield row(copied(), (case.options.num_states + 1 + NUMBER, NUMBER))


def rows(name, backend, variant, options):
    """The rows of the check, and of the copies."""
    plain = PLAIN._replace(dtype=options.dtype, device=options.device)
    yield from runner.check(name, backend, variant, [plain, options], omit=OMITTED)
    case = make_case(name, backend, variant, options)
    for piece in (train_epoch, evaluate, predict):
        try:
            yield from case.rows(piece)
        except Exception as error:
            yield fact("raised", False, runner.described(error), piece=piece.__name__)


def main(package, name, devices, *variants):
    """Print the first row that fails of a backend in this package, or what has been checked."""
    backend = importlib.import_module(package)
    backend.machine.set_threads(1)  # before anything is computed
    for variant in variants:
        for device in devices.split(","):
            for each in rows(name, backend, variant, OPTIONS._replace(device=device)):
                if not each.passed:
                    return print(f"{each.place}: {each.sentence}")
    print("checked", *variants)


if __name__ == "__main__":
    main(*sys.argv[1:])
