"""Train the networks that lessons and solutions compare: `python -m measure exercises FILE`.

Most runs use the NumPy backend with one thread and the built-in text; two runs use downloaded
books. The runs take about half an hour in total.
"""

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rnn_scratch
from measure.measuring import round_digits, spawn, write
from rnn_scratch import registry
from rnn_scratch.contract import Batch, UpdateRule
from rnn_scratch.errors import DivergenceError
from rnn_scratch.runs import run_folder
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, minibatches
from rnn_scratch.training import events
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

VARIANT = "fast"  # equivalent to scratch, but faster
BASE = {"num_hiddens": 256, "num_epochs": 300, "valid_tokens": 5_000, "normalize": "spaced"}
RUNS = {
    "64 hidden units": {"num_hiddens": 64},
    "512 hidden units": {"num_hiddens": 512},
    "10 time steps": {"num_steps": 10},
    "70 time steps": {"num_steps": 70},
    "learning rate 0.3": {"lr": 0.3},
    "learning rate 3": {"lr": 3.0},
    "random sampling": {"sampling": "random"},
    "20,000 characters": {"max_tokens": 20_000},
}
CELLS = {"tanh": "rnn", "relu": "rnn-relu"}
# Give the embedding runs the same seeds as the one-hot runs below.
for size, seed in itertools.product((2, 8, 32), range(3)):
    RUNS[f"embedding {size}, seed {seed}"] = {"embedding": size, "seed": seed}
# Unclipped results vary more, so use more seeds. The run "tanh, seed 0" uses BASE unchanged.
for (activation, cell), seed in itertools.product(CELLS.items(), range(6)):
    settings = {"cell": cell, "seed": seed}
    if seed < 3:
        RUNS[f"{activation}, seed {seed}"] = settings
    RUNS[f"{activation}, not clipped, seed {seed}"] = {**settings, "theta": None}
for activation, cell in CELLS.items():
    settings = {"cell": cell, "sigma": 0.07, "num_epochs": 60}
    RUNS[f"{activation}, sigma 0.07"] = settings
    RUNS[f"{activation}, not clipped, sigma 0.07"] = {**settings, "theta": None}
# Compare cells with similar numbers of parameters.
for (cell, units), seed in itertools.product({"rnn": 128, "gru": 64, "lstm": 64}.items(), range(5)):
    settings = {"cell": cell, "num_hiddens": units, "seed": seed}
    RUNS[f"{cell}, seed {seed}"] = {**settings, "num_epochs": 30, "optimizer": "adam", "lr": 0.01}
# For an LSTM, vary each optimizer's learning rate and the initial weights' standard deviation.
LEARNING_RATES = {
    "sgd": (1, 4, 16, 64),
    "momentum": (0.1, 0.5, 2, 8, 32),
    "adam": (0.003, 0.01, 0.03, 0.1, 0.2, 0.4),
}
for optimizer, sigma, seed in itertools.product(LEARNING_RATES, (0.01, 0.125), range(2)):
    for lr in LEARNING_RATES[optimizer]:
        settings = {"optimizer": optimizer, "lr": float(lr), "sigma": sigma, "seed": seed}
        name = f"{optimizer}, learning rate {lr:g}, sigma {sigma:g}, seed {seed}"
        RUNS[name] = {"cell": "lstm", "num_hiddens": 64, "num_epochs": 15, **settings}
BOOKS = ("time-machine", "war-of-the-worlds")
READING = {"max_tokens": 100_000, "num_epochs": 20}
UPDATE = UpdateRule()
REACHES = (1, 2, 4, 8)  # how many minibatches the gradients flow back through


def run(settings, book="tide-clock", other_book=None):
    """Train a model; return its settings, outcome, and perplexities on `book` and `other_book`."""
    evaluation = {}
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "run")
        variant = "scratch" if settings.get("cell") == "gru" else VARIANT  # `fast` lacks this cell
        options = {"variant": variant, "corpus": book, "threads": 1, "output": folder}
        with contextlib.suppress(DivergenceError):  # divergence is a valid result
            rnn_scratch.train("numpy", **options, **{**BASE, **settings})
        record, history = run_folder.read(folder), run_folder.read_history(folder)
        if other_book is not None:
            result = rnn_scratch.evaluate(folder, corpus=other_book)
            evaluation = {
                "other book": round_digits(result.perplexity),
                "unigrams of the other book": round_digits(result.unigram_perplexity),
            }
    return {
        "settings": record.settings,
        "outcome": record.sessions[-1].outcome,
        "perplexity": [round_digits(epoch.perplexity) for epoch in history],
        "held out": [round_digits(epoch.valid_perplexity) for epoch in history],
        **evaluation,
    }


def train_not_detached(name: str, reach: int) -> Iterator[dict[str, Any]]:
    """Train with gradients through the last `reach` minibatches; yield the result.

    Because rows continue from one minibatch to the next, these minibatches are recomputed with the
    current parameters, starting from the state before the oldest one.
    """
    settings = Settings(num_hiddens=128, num_epochs=60, num_steps=10, normalize="spaced")
    text = books.load("tide-clock")
    context = prepare_run(settings, Runtime(name, VARIANT, "cpu", threads=1), text)
    machine, model, seconds, losses = context.backend.machine, context.model, [], []
    for epoch in range(1, settings.num_epochs + 1):
        batches = list(minibatches.epoch_batches(context.dataset.train, settings, epoch))
        start = time.perf_counter()
        losses = train_epoch_not_detached(context.backend, model, batches, reach)
        machine.synchronize(list(model.params.values()), "cpu")
        seconds.append(time.perf_counter() - start)
    yield {
        "perplexity": round_digits(events.perplexity(sum(losses) / len(losses))),
        "seconds": round(statistics.median(seconds), 4),
        "environment": machine.versions(),
    }


def train_epoch_not_detached(backend, model, batches, reach, update=UPDATE):
    """Train for an epoch with gradients through the last `reach` minibatches; return the losses."""
    scratch, machine, losses = backend.scratch, backend.machine, []
    states = [scratch.init_state(len(batches[0].X), model.options)]
    for index, batch in enumerate(batches):
        oldest = max(0, index + 1 - reach)
        X = np.concatenate([b.X for b in batches[oldest : index + 1]], axis=1)
        last = batch.Y.size

        def forward(*arguments, last=last):
            logits, state = model.forward(*arguments)
            return logits[-last:], state  # only the last minibatch contributes to the loss

        # Use autodiff, because a handwritten backward pass would need all logits.
        tensors = Batch(X, batch.Y).map(machine.tensor, "cpu")
        mean_loss, grads, state = scratch.gradients(
            model.params, tensors, states[oldest], model.options, forward
        )
        grads, _ = scratch.clip(grads, update.theta)
        model.params, _ = scratch.sgd(model.params, grads, {}, update)
        states.append(state)
        losses.append(float(mean_loss))
    return losses


def main(file):
    """Take all measurements and write the record to `file`."""
    for book in BOOKS:
        books.load(book)  # fail now if a book is missing, not after all other runs
    record = {"runs": {name: run(settings) for name, settings in RUNS.items()}}
    record["books"] = {
        book: run(READING, book, other_book) for book, other_book in (BOOKS, BOOKS[::-1])
    }
    record["not detached"] = {
        name: {str(reach): spawn(train_not_detached, name, reach) for reach in REACHES}
        for name in registry.BUILTIN_BACKENDS[1:]
    }
    write(file, record)
