"""Measure how long cells can learn to store a symbol: `python -m measure memory FILE`.

The lesson *Gates* quotes the record. Every run takes a few seconds with PyTorch on one thread.
"""

import itertools

from experiments import recall_accuracy

from measure.measuring import write
from rnn_scratch import registry

BACKEND = "torch"
SETTINGS = {
    "rnn, sigma 0.05": {"cell": "rnn", "sigma": 0.05},
    "rnn, sigma 0.125": {"cell": "rnn"},
    "gru": {"cell": "gru"},
    **{f"lstm, forget bias {bias}": {"cell": "lstm", "forget_bias": bias} for bias in (0, 1, 3, 5)},
}
DISTANCES = (10, 30, 60, 100)  # numbers of fillers between a symbol and its recall
SEEDS = range(3)


def main(file):
    """Train with all settings; write the record after every run, in case the program is stopped."""
    backend, _ = registry.start(BACKEND, threads=1)
    accuracy = {name: {str(n): [] for n in DISTANCES} for name in SETTINGS}
    for seed, distance, name in itertools.product(SEEDS, DISTANCES, SETTINGS):
        settings = SETTINGS[name]
        result = recall_accuracy(BACKEND, num_fillers=distance, seed=seed, **settings)
        accuracy[name][str(distance)].append(round(result, 3))
        record = {"environment": backend.machine.versions(), "settings": SETTINGS}
        write(file, {**record, "accuracy": accuracy})
