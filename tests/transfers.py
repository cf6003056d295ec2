"""Program that checks a backend on an emulated device and counts copies to and from the device."""

import importlib
import sys

import emulated

from rnn_scratch import registry
from rnn_scratch.check import runner
from rnn_scratch.check.case import make_case
from rnn_scratch.check.draws import Draw
from rnn_scratch.check.results import Result, describe_error, pass_fail_result
from rnn_scratch.contract import ModelConfig, UpdateRule

OPTIONS = ModelConfig(11, 13, "lstm", embedding=5, num_layers=2, dropout=0.4)
UPDATE = UpdateRule(lr=0.1, c_m=0.1, c_v=0.1, optimizer="adam")
COUNT = 3  # number of minibatches and number of tokens
# Expected counts (to device, to host) for `predict` in frameworks whose emulation misses copies.
COUNTED = {"tensorflow": (0, COUNT), "jax": (0, 0)}


def model_and_batches(case):
    """Return a model with Adam slots, and `COUNT` minibatches."""
    batches, _ = case.epoch(0)
    return case.model(optimizer=UPDATE.optimizer), batches[:COUNT]


def copied():
    """Return how many tensors have been copied to the device and to the host."""
    return emulated.transfers["to device"], emulated.transfers["to host"]


def result(copies, expected):
    """Return a check result comparing the copy counts (to device, to host) with `expected`."""
    return Result("copies", str(copies), str(expected))


def train_epoch(case):
    """Check that minibatches are copied to the device once, and losses to the host at the end."""
    (model, batches), copies = model_and_batches(case), []

    def watched():
        for batch in batches:
            copies.append(copied())
            yield batch

    updates = [UPDATE] * COUNT
    case.scratch.train_epoch(model, iter(batches), updates, True)  # compile and copy constants
    emulated.transfers.clear()
    with emulated.explicit():
        case.scratch.train_epoch(model, watched(), updates, True)
    expected = [(3 * n, 0) for n in range(COUNT)]  # X, Y and masks
    yield result([*copies, copied()], [*expected, (3 * COUNT, COUNT)])


def evaluate(case):
    """Check that each minibatch's tokens are copied to the device, and its loss to the host."""
    model, batches = model_and_batches(case)
    emulated.transfers.clear()
    case.scratch.evaluate(model, (batch._replace(masks=None) for batch in batches))
    yield result(copied(), (2 * COUNT, COUNT))


def predict(case):
    """Check that each token is copied to the device, and each new token's logits to the host."""
    model, _ = model_and_batches(case)
    emulated.transfers.clear()
    case.scratch.predict(model, (0, 1), COUNT, lambda logits: 0)
    yield result(copied(), COUNTED.get(case.backend.name, (1 + COUNT, COUNT)))


def results(name, backend, variant, options):
    """Yield the backend's check results, then its copy-count results."""
    plain = ModelConfig(11, 13, dtype=options.dtype, device=options.device)
    cases = [Draw(plain), Draw(options, optimizer="adam")]
    yield from runner.check(backend, variant, cases)
    case = make_case(backend, variant, cases[-1])
    for check in (train_epoch, evaluate, predict):
        try:
            yield from case.run(check)
        except Exception as error:
            problem = describe_error(error)
            yield pass_fail_result("raised", False, problem, function=check.__name__)


def main(package, name, devices, *variants):
    """Print the backend's first failure or, if there is none, the names of the checked variants."""
    backend = registry.assemble(name, importlib.import_module(package))
    backend.machine.set_threads(1)  # must precede the first computation
    for variant in variants:
        for device in devices.split(","):
            for row in results(name, backend, variant, OPTIONS._replace(device=device)):
                if not row.passed:
                    return print(f"{row.function}: {row.sentence}")
    print("checked", *variants)


if __name__ == "__main__":
    main(*sys.argv[1:])
