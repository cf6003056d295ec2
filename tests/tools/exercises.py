"""Measurements for the chapter's exercises: `python tests/tools/exercises.py FILE [NAME ...]`.

Every figure of the worked solutions comes from the file that this writes. The runs are of the
built-in text, so that they can be made again anywhere, with the NumPy backend, on one thread.
Without names all is measured, some fifteen minutes' work; with names, only those, and the rest of
the file stays as it is.
"""

import itertools
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import Options, RNNScratchError, Update
from rnn_scratch.initial import initial
from rnn_scratch.runs import folder as run_folder
from rnn_scratch.runs import training
from rnn_scratch.settings import make
from rnn_scratch.system import host, processes
from rnn_scratch.text import corpus, minibatches, vocabulary

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
# The seeds are those of the runs with one-hot vectors below.
for size, seed in itertools.product((2, 8, 32), range(3)):
    RUNS[f"embedding {size}, seed {seed}"] = {"embedding": size, "seed": seed}
# Without clipping much is luck, and few seeds show little. The first of these is BASE itself.
for activation, seed in itertools.product(("tanh", "relu"), range(6)):
    given = {"activation": activation, "seed": seed}
    if seed < 3:
        RUNS[f"{activation}, seed {seed}"] = given
    RUNS[f"{activation}, not clipped, seed {seed}"] = {**given, "theta": None}
for activation in ("tanh", "relu"):
    given = {"activation": activation, "sigma": 0.07, "num_epochs": 60}
    RUNS[f"{activation}, sigma 0.07"] = given
    RUNS[f"{activation}, not clipped, sigma 0.07"] = {**given, "theta": None}
REACHES = (1, 2, 4, 8)  # minibatches that a gradient goes back through


def run(settings):
    """A run's settings, its perplexities, and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "run")
        given = {**BASE, **settings}
        try:
            rnn_scratch.train("numpy", corpus="tide-clock", threads=1, run=place, **given)
        except RNNScratchError as error:
            if error.exit_code != 1:  # that it diverges is an answer; anything else is a mistake
                raise
        history, record = run_folder.history(place), run_folder.read(place)
    return {
        "settings": record["settings"],
        "outcome": record["sessions"][-1]["outcome"],
        "epochs": len(history),
        "perplexity": [figure(row.perplexity) for row in history],
        "held out": [figure(row.valid_perplexity) for row in history],
        "seconds": round(sum(row.seconds for row in history), 2),
    }


def figure(perplexity):
    """As many digits as a page could quote."""
    return None if perplexity is None else float(f"{perplexity:.4g}")


def not_detached(name, reach):
    """Yield what comes of gradients that go back through the last `reach` minibatches.

    The windows of a row are contiguous, so that the state before the oldest of them, and all
    their tokens in a line, are what an uncut graph would hold; it is computed with the parameters
    as they are now.
    """
    settings = make({"num_hiddens": 128, "num_epochs": 60, "num_steps": 10})
    backend, _ = registry.start(name, 1)
    text = vocabulary.normalize(corpus.load("tide-clock", print).content, settings.normalize)
    vocab = vocabulary.build(text)
    tokens = vocabulary.encode(text, vocab)[: settings.max_tokens]
    model = backend.scratch(initial(len(vocab), 128, settings.sigma, 0), Options())
    seconds, loss = [], 0.0
    for epoch in range(1, settings.num_epochs + 1):
        start = time.perf_counter()
        loss = train_epoch_not_detached(
            backend,
            model,
            list(
                minibatches.of_epoch(
                    tokens, settings.batch_size, settings.num_steps, "sequential", 0, epoch
                )
            ),
            reach,
        )
        backend.synchronize("cpu")
        seconds.append(time.perf_counter() - start)
    yield {
        "perplexity": figure(training.perplexity(loss)),
        "seconds": round(statistics.median(seconds), 4),
        "environment": backend.environment(),
    }


def train_epoch_not_detached(backend, model, batches, reach):
    """Mean loss of an epoch whose gradients go back through the last `reach` minibatches."""
    options, how, losses = model.options, Update(), []
    states = [model.state(len(batches[0][0]), model.num_hiddens, options)]
    for number, (_, Y) in enumerate(batches):
        oldest = max(0, number + 1 - reach)
        X = np.concatenate([x for x, _ in batches[oldest : number + 1]], axis=1)

        def forward(*given, last=Y.size):
            logits, state = model.forward(*given)
            return logits[-last:], state  # only the newest minibatch's loss is asked for

        mean, grads, state = backend.gradients(
            # The way back is autograd's: a model's own is of all time steps' losses.
            model._replace(forward=forward, backward=None),
            backend.tensor(X, "cpu"), backend.tensor(Y, "cpu"), states[oldest],
        )  # fmt: skip
        grads, _ = backend.clip(grads, how.theta)
        backend.update(model.params, grads, how.lr, how.grid)
        states.append(state)
        losses.append(float(mean))
    return sum(losses) / len(losses)


def main():
    """Measure what is asked for."""
    file, names = Path(sys.argv[1]), sys.argv[2:]
    found = json.loads(file.read_text(encoding="utf-8")) if names and file.exists() else {}
    found["machine"] = host.describe()
    found.setdefault("runs", {})
    found.setdefault("not detached", {})
    for name in [name for name in RUNS if not names or name in names]:
        found["runs"][name] = run(RUNS[name])
        print(name, found["runs"][name]["outcome"], found["runs"][name]["perplexity"][-1:])
    for name in [name for name in registry.OURS[1:] if not names or name in names]:
        found["not detached"][name] = {}
        for reach in REACHES:
            (answer,) = processes.ask("exercises:not_detached", name, reach, timeout=3600)
            found["not detached"][name][str(reach)] = answer
            print(name, reach, answer)
    found["runs"] = {name: found["runs"][name] for name in RUNS if name in found["runs"]}
    lists = re.compile(r"\[[^\[\]{}]*\]")  # of numbers: each on one line
    text = lists.sub(lambda each: re.sub(r"\s+", " ", each[0]), json.dumps(found, indent=1))
    file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
