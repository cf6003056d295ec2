"""Compare cells, optimizers and initial weights on the story: `python -m measure learning FILE`.

The lesson *Make it learn well* quotes the record. Networks train with PyTorch on one thread, for
about three minutes in total.
"""

import itertools
import tempfile
from pathlib import Path

import rnn_scratch
from measure.measuring import rounded, write
from rnn_scratch import registry
from rnn_scratch.training.events import Report

BACKEND = "torch"
TEXT = {"corpus": "tide-clock", "max_tokens": 10_000, "valid_tokens": 5_000}
# Cells with about equal numbers of parameters.
CELLS = {"rnn": 128, "gru": 64, "lstm": 64}
CELL_SETTINGS = {"num_epochs": 30, "optimizer": "adam", "lr": 0.01, "sigma": 0.01}
CELL_SEEDS = range(5)
# Learning rates for each optimizer, and standard deviations of the initial weights, for an LSTM.
LEARNING_RATES = {
    "sgd": (1.0, 4.0, 16.0, 64.0),
    "momentum": (0.1, 0.5, 2.0, 8.0),
    "adam": (0.003, 0.01, 0.03, 0.1),
}
SIGMAS = (0.01, 0.125)
OPTIMIZER_SETTINGS = {"cell": "lstm", "num_hiddens": 64, "num_epochs": 15}
OPTIMIZER_SEEDS = range(2)


def train(**settings):
    """Train on the story; return the number of parameters and the held-out perplexities."""
    with tempfile.TemporaryDirectory() as folder:
        model = "scratch" if settings.get("cell") == "gru" else "fast"  # `fast` lacks this cell
        runtime = {"model": model, "threads": 1, "run": Path(folder, "run"), "report": Report()}
        run = rnn_scratch.train(BACKEND, **TEXT, **runtime, **settings)
    return {
        "parameters": sum(array.size for name, array in run.arrays.items() if "." not in name),
        "held out": [rounded(epoch.valid_perplexity) for epoch in run.history],
    }


def main(file):
    """Train all networks, and write the record to `file`."""
    backend, _ = registry.start(BACKEND, threads=1)
    record = {"environment": backend.machine.versions(), "text": TEXT}
    record["cells"] = {
        f"{cell}, seed {seed}": train(cell=cell, num_hiddens=units, seed=seed, **CELL_SETTINGS)
        for seed, (cell, units) in itertools.product(CELL_SEEDS, CELLS.items())
    }
    record["optimizers"] = {}
    for optimizer, sigma, seed in itertools.product(LEARNING_RATES, SIGMAS, OPTIMIZER_SEEDS):
        for lr in LEARNING_RATES[optimizer]:
            choice = {"optimizer": optimizer, "lr": lr, "sigma": sigma, "seed": seed}
            name = f"{optimizer}, learning rate {lr:g}, sigma {sigma:g}, seed {seed}"
            record["optimizers"][name] = train(**OPTIMIZER_SETTINGS, **choice)
    write(file, record)
