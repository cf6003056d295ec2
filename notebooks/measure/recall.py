"""Measure how quickly cells learn to store a symbol: `python -m measure recall FILE`.

The lesson *Gates* quotes the record. Networks train with PyTorch on one thread, for about half an
hour in total.
"""

import itertools

from measure.measuring import round_digits, write
from rnn_scratch import registry
from rnn_scratch.support.experiments import (
    recall_accuracy,
    recall_minibatches,
    recall_training,
)

BACKEND = "torch"
HALVED = "gru, candidate times 1/2"  # see `halve_candidate`
SETTINGS = {
    "rnn, sigma 0.05": {"cell": "rnn", "sigma": 0.05},
    "rnn, sigma 0.125": {"cell": "rnn"},
    "gru": {"cell": "gru"},
    HALVED: {"cell": "gru"},
    **{f"lstm, forget bias {bias}": {"cell": "lstm", "forget_bias": bias} for bias in (0, 1, 3, 5)},
}
DISTANCES = 10, 30, 100  # numbers of fillers between a symbol and its recall
UPDATES = 0, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000  # the recall is measured after these
SEEDS = range(2)
GATES = {"gru": "z", "lstm": "f"}  # the gates that keep the old state


def halve_candidate(gate):
    """Return a PyTorch GRU cell that multiplies the candidate by 1/2 instead of 1 - z."""

    def cell(x, state, params):
        (h,) = state
        z, r = (gate(x, h, name, params) for name in "zr")
        h_tilde = (x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"]).tanh()
        return (z * h + h_tilde / 2,)

    return cell


def highest_gate(model, num_fillers):
    """Average the gate of each unit over fillers and rows; return the largest average."""
    numpy, cell = registry.load("numpy"), model.options.cell
    params = numpy.scratch.init_params(model.to_arrays(model.params), model.options)
    (batch,) = recall_minibatches(num_fillers, 1, seed=1000, batch_size=100)
    state, total = numpy.scratch.init_state(100, model.options), 0.0
    for t, x in enumerate(numpy.scratch.encode(batch.X.T, params)[: num_fillers + 1]):
        if t > 0:  # x is a filler, not the symbol
            total = total + numpy.cells.gate(x, state[0], GATES[cell], params).mean(0)
        _, state = numpy.scratch.step(x, state, params, model.options)
    return round_digits(float((total / num_fillers).max()))


def main(file):
    """Train with all settings; write the record after every run, in case of interruption."""
    backend, _ = registry.start(BACKEND, threads=1)
    cells = backend.scratch.CELLS
    gru, halved = cells["gru"], halve_candidate(backend.cells.gate)
    accuracy, gates = (
        {name: {str(n): [] for n in DISTANCES} for name in SETTINGS} for _ in range(2)
    )
    record = {"environment": backend.machine.versions(), "settings": SETTINGS}
    record["updates"] = UPDATES
    for seed, n, name in itertools.product(SEEDS, DISTANCES, SETTINGS):
        settings, accuracies, highest_gates = SETTINGS[name], [], []
        cells["gru"] = halved if name == HALVED else gru
        for model in recall_training(
            BACKEND, num_fillers=n, updates=UPDATES, seed=seed, **settings
        ):
            accuracies.append(round(recall_accuracy(BACKEND, model, n), 3))
            if settings["cell"] in GATES and name != HALVED:
                highest_gates.append(highest_gate(model, n))
        accuracy[name][str(n)].append(accuracies)
        gates[name][str(n)].append(highest_gates)
        write(file, {**record, "accuracy": accuracy, "gates": gates})
