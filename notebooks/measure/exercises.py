"""Make measurements for the chapter's exercises: `python -m measure exercises FILE`.

The solutions quote the record. Most runs use the NumPy backend with one thread and the built-in
text; two runs use downloaded books. The runs take about twenty minutes in total.
"""

import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rnn_scratch
from measure.measuring import rounded, spawn, write
from rnn_scratch import registry
from rnn_scratch.contract import Batch, Update
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, minibatches
from rnn_scratch.training import loop as training
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

MODEL = "fast"  # equivalent to scratch, but faster
BASE = {"num_hiddens": 256, "num_epochs": 300, "valid_tokens": 5_000}
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
# Runs with embeddings, with the same seeds as the runs with one-hot vectors below.
for size, seed in itertools.product((2, 8, 32), range(3)):
    RUNS[f"embedding {size}, seed {seed}"] = {"embedding": size, "seed": seed}
# Without clipping, the result depends on the seed. The run "tanh, seed 0" uses BASE unchanged.
for (activation, cell), seed in itertools.product(CELLS.items(), range(6)):
    settings = {"cell": cell, "seed": seed}
    if seed < 3:
        RUNS[f"{activation}, seed {seed}"] = settings
    RUNS[f"{activation}, not clipped, seed {seed}"] = {**settings, "theta": None}
for activation, cell in CELLS.items():
    settings = {"cell": cell, "sigma": 0.07, "num_epochs": 60}
    RUNS[f"{activation}, sigma 0.07"] = settings
    RUNS[f"{activation}, not clipped, sigma 0.07"] = {**settings, "theta": None}
BOOKS = ("time-machine", "war-of-the-worlds")
READING = {"max_tokens": 100_000, "num_epochs": 20}
UPDATE = Update()
REACHES = (1, 2, 4, 8)  # numbers of minibatches that gradients flow back through


def run(settings, book="tide-clock", other_book=None):
    """Train a model; return settings, outcome and perplexities, also on `other_book` if given."""
    evaluation = {}
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "run")
        options = {"model": MODEL, "corpus": book, "threads": 1, "run": folder}
        try:
            rnn_scratch.train("numpy", **options, **{**BASE, **settings})
        except RNNScratchError as error:
            if error.exit_code != 1:  # exit code 1 means divergence, which is a result
                raise
        record = json.loads((folder / "run.json").read_bytes())
        history = [json.loads(line) for line in (folder / "history.jsonl").open("rb")]
        if other_book is not None:
            result = rnn_scratch.evaluate(folder, corpus=other_book)
            evaluation = {
                "other book": rounded(result.perplexity),
                "unigrams of the other book": rounded(result.unigram),
            }
    return {
        "settings": record["settings"],
        "model": MODEL,
        "outcome": record["sessions"][-1]["outcome"],
        "epochs": len(history),
        "perplexity": [rounded(epoch["perplexity"]) for epoch in history],
        "held out": [rounded(epoch["valid_perplexity"]) for epoch in history],
        "seconds": round(sum(epoch["seconds"] for epoch in history), 2),
        **evaluation,
    }


def not_detached(name: str, reach: int) -> Iterator[dict[str, Any]]:
    """Train with gradients through the last `reach` minibatches; yield the result.

    Rows continue from minibatch to minibatch, so these minibatches are recomputed with the current
    parameters from the state before the oldest minibatch.
    """
    settings = Settings(num_hiddens=128, num_epochs=60, num_steps=10)
    text = books.load("tide-clock")
    setup = prepare_run(settings, Runtime(name, MODEL, "cpu", threads=1), text)
    machine, model, seconds, losses = setup.backend.machine, setup.model, [], []
    for epoch in range(1, settings.num_epochs + 1):
        batches = list(minibatches.epoch_batches(setup.dataset.train, settings, epoch))
        start = time.perf_counter()
        losses = train_epoch_not_detached(setup.backend, model, batches, reach)
        machine.synchronize(list(model.params.values()), "cpu")
        seconds.append(time.perf_counter() - start)
    yield {
        "perplexity": rounded(training.perplexity(sum(losses) / len(losses))),
        "seconds": round(statistics.median(seconds), 4),
        "model": MODEL,
        "environment": machine.versions(),
    }


def train_epoch_not_detached(backend, model, batches, reach, update=UPDATE):
    """Train an epoch with gradients through the last `reach` minibatches; return the losses."""
    scratch, machine, losses = backend.scratch, backend.machine, []
    states = [model.state(len(batches[0].X))]
    for index, batch in enumerate(batches):
        oldest = max(0, index + 1 - reach)
        X = np.concatenate([earlier.X for earlier in batches[oldest : index + 1]], axis=1)
        Y = batch.Y

        def forward(inputs, state, last=Y.size, **params):
            logits, state = model.forward(inputs, state, **params)
            return logits[-last:], state  # only the newest minibatch contributes to the loss

        mean_loss, grads, state = scratch.gradients(
            # Differentiate automatically: a hand-written backward pass needs all logits.
            dataclasses.replace(model, forward=forward, backward=None),
            Batch(X, Y).map(machine.tensor, "cpu"),
            states[oldest],
        )
        grads, _ = scratch.clip(grads, update.theta)
        scratch.sgd(model, grads, update)
        states.append(state)
        losses.append(float(mean_loss))
    return losses


def main(file):
    """Make all measurements, and write the record to `file`."""
    for book in BOOKS:
        books.load(book)  # fail now if a book is missing, not after all other runs
    record = {"runs": {name: run(settings) for name, settings in RUNS.items()}}
    record["books"] = {
        book: run(READING, book, other_book) for book, other_book in (BOOKS, BOOKS[::-1])
    }
    record["not detached"] = {
        name: {str(reach): spawn(not_detached, name, reach) for reach in REACHES}
        for name in registry.BUILTIN_BACKENDS[1:]
    }
    write(file, record)
