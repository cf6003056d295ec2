"""Whether the certificate of exact mode can be believed: `python -m measure lockstep [N]`.

Models of NumPy and PyTorch are trained in lockstep, in one process. In every update all elements of
steps and carried states are compared before they are rounded, so that the true safety factor is
known: the smallest ratio of an element's distance from a rounding boundary and the difference of
the models in it. What `check --exact` states should be within a factor of two of it. The settings
are those of a table, or N random ones, among them such as diverge. A line for each has both
factors, and ends with ACCUSED if a framework is blamed for what rounding does.
"""

import random

import numpy as np

from rnn_scratch import exact
from rnn_scratch.check import exact_mode, kept, observation
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings, update_rule
from rnn_scratch.text import books, minibatches

RUNTIMES = [Runtime(name, "scratch", "cpu", threads=1) for name in ("numpy", "torch")]
BOOK = {"sigma": 0.1, "num_epochs": 2, "theta": None}
TABLE = [
    {**BOOK, "lr": 5.0, "num_hiddens": 64},
    {**BOOK, "lr": 20.0, "num_hiddens": 64},
    {**BOOK, "lr": 60.0, "num_hiddens": 64},
    {**BOOK, "lr": 20.0, "theta": 100.0, "num_hiddens": 128},
    {**BOOK, "lr": 100.0, "num_hiddens": 128},
]
CHOICES = {
    "cell": ("rnn", "rnn", "rnn", "gru", "gru-after", "lstm"),
    "activation": ("tanh", "tanh", "tanh", "relu"),
    "num_hiddens": (8, 16, 32, 64, 128),
    "batch_size": (4, 8, 32),
    "num_steps": (5, 12, 35),
    "sigma": (0.01, 0.05, 0.1, 0.2, 0.5),
    "lr": (0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 100.0),
    "theta": (None, 0.1, 1.0, 1.0, 100.0),
    "sampling": ("sequential", "sequential", "random"),
    "num_epochs": (1, 2, 4),
    "max_tokens": (1_000, 3_000),
}


def true_factor(settings, text):
    """The smallest ratio of all elements of all updates, until the models differ; and after which.

    The steps are those of `gradients` and `clip`, and not of what the certificate observes.
    """
    setups = [set_up(settings, runtime, text) for runtime in RUNTIMES]
    how, factor, number = update_rule(settings), np.inf, 0
    carry = minibatches.carries(settings.sampling)
    for epoch in range(1, settings.num_epochs + 1):
        states = [setup.model.state(settings.batch_size) for setup in setups]
        for batch in minibatches.epoch_batches(setups[0].dataset.train, settings, epoch):
            if not carry:
                states = [setup.model.state(settings.batch_size) for setup in setups]
            values, after = [], []
            for setup, state in zip(setups, states):
                scratch, machine, model = setup.backend.scratch, setup.backend.machine, setup.model
                tensors = batch.map(machine.tensor, "cpu")
                _, grads, end = scratch.gradients(model, tensors, state)
                arrays = model.to_arrays(scratch.clip(grads, how.theta)[0])
                steps = {name: how.lr * array for name, array in arrays.items()}
                names = observation.states(settings, len(end))
                values.append(steps | dict(zip(names, map(machine.array, end))))
                after.append(scratch.train_minibatch(model, tensors, state, how)[1])
            number += 1
            for name, one in values[0].items():
                difference = np.abs(one - values[1][name])
                distances = [kept.distances(name, each[name]) for each in values]
                moved = difference > 0
                ratios = np.minimum(*distances)[moved] / difference[moved]
                factor = min(factor, ratios.min(initial=np.inf))
            states = after
            ends = [
                [exact.digest(setup.model.to_arrays(setup.model.params))]
                + [setup.backend.machine.array(each) + 0.0 for each in state if carry]
                for setup, state in zip(setups, states)
            ]
            if not all(np.array_equal(*pair) for pair in zip(*ends)):
                return factor, number
    return factor, None


def compare(changes, text):
    """A line of what is stated and what is true; whether they agree, and nobody is accused."""
    settings = Settings(**{**changes, "exact": True})
    with np.errstate(all="ignore"):
        truth, differs = true_factor(settings, text)
    certificate = exact_mode.compare(RUNTIMES, settings, text, lambda *_: None).certificate
    divergence, stated = certificate.divergence, certificate.factor
    accused = divergence is not None and not divergence.explained
    end = f"true {truth:9.2e}, differs after {differs}"
    if divergence:
        ratio = max(divergence.distance, divergence.difference) / divergence.moved
        words = f"after {divergence.update}: {ratio:.1e} of what rounding moves"
        words += f", growth {divergence.growth:.0e}"
    else:
        words = f"stated {stated:9.2e}" if stated else "stated no difference"
    print(f"{end}; {words}{'; ACCUSED' if accused else ''} {changes}", flush=True)
    agrees = divergence or not stated or 0.5 <= stated / truth <= 2
    return not accused and agrees and (divergence.update if divergence else None) == differs


def main(number="0"):
    """Compare for each setting of the table, or for so many random ones."""
    number = int(number)
    chance = random.Random(number)
    some = [{name: chance.choice(each) for name, each in CHOICES.items()} for _ in range(number)]
    text = books.find("tide-clock" if number else None, None, print)
    results = []
    for changes in some or TABLE:
        try:
            results.append(compare(changes, text))
        except RNNScratchError as error:
            print(f"{str(error).splitlines()[0]} {changes}", flush=True)
    print(f"{sum(map(bool, results))} of {len(results)} as they should be")
