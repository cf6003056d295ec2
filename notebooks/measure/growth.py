"""Measure how time and memory grow with each size: `python -m measure growth FILE`.

A child process per point trains the `fast` variant with one thread, in float32, and reports CPU
milliseconds per minibatch and the memory that the model and its training added to the loaded
backend. One size varies at a time; the others are those of BASE. Then a text is read, normalized
and encoded, at six lengths. The measurement takes about 15 minutes.
"""

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from measure.measuring import round_digits, spawn, write
from rnn_scratch import registry
from rnn_scratch.compare.tasks import peak_memory
from rnn_scratch.contract import ModelConfig, UpdateRule
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, minibatches

BASE = {"hidden units": 256, "rows": 32, "time steps": 32, "layers": 1}
VARIED = {
    "hidden units": (64, 128, 256, 512, 1024, 2048),
    "rows": (8, 16, 32, 64, 128, 256),
    "time steps": (8, 16, 32, 64, 128),
    "layers": (1, 2, 4),
}
LENGTHS = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)  # characters of a text
VOCABULARY = 28
MIN_SECONDS, MIN_COUNT = 2.0, 5  # for at least this long and this many minibatches


def train(name: str, sizes: dict[str, int]) -> Iterator[dict[str, float]]:
    """Yield the CPU milliseconds per minibatch, and the mebibytes that training added."""
    backend, _ = registry.start(name, threads=1)
    before = peak_memory()
    H, B, T, L = (sizes[size] for size in BASE)
    options = ModelConfig(VOCABULARY, H, num_layers=L)
    model = registry.build(backend, "fast", draw_parameters(options, 0.01, 0), options)
    tokens = np.random.RandomState(0).randint(0, VOCABULARY, B * T * 8 + B + T)
    batches = itertools.cycle([*minibatches.sequential(tokens, B, T, 0)])
    rule, state, times = [UpdateRule(lr=0.1)], None, list[float]()
    while len(times) <= MIN_COUNT or sum(times[1:]) < MIN_SECONDS:
        start = time.process_time()
        _, state = backend.scratch.train_epoch(model, [next(batches)], rule, True)
        backend.machine.synchronize([*state, *model.params.values()], "cpu")
        times.append(time.process_time() - start)  # the first one includes compilation
    yield {
        "milliseconds": round_digits(1000 * statistics.median(times[1:])),
        "mebibytes": round_digits((peak_memory() - before) / 2**20),
    }


def prepare(length: int) -> Iterator[dict[str, float]]:
    """Yield the CPU milliseconds and mebibytes that it takes to turn a text into tokens."""
    book = books.load(books.BUILT_IN)
    content = (book.content * (length // len(book.content) + 1))[:length]
    text = replace(book, content=content)
    before, start = peak_memory(), time.process_time()
    dataset.prepare(text, Settings(max_tokens=0, batch_size=1, num_steps=8))
    yield {
        "milliseconds": round_digits(1000 * (time.process_time() - start)),
        "mebibytes": round_digits((peak_memory() - before) / 2**20),
    }


def main(file: str) -> None:
    """Measure all points and write the record to `file`."""
    growth: dict[str, Any] = {}
    for size, values in VARIED.items():
        for name in registry.BUILTIN_BACKENDS:
            points = [spawn(train, name, {**BASE, size: value}) for value in values]
            growth.setdefault(size, {})[name] = dict(zip(map(str, values), points))
            print(size, name, points, flush=True)
    points = [spawn(prepare, length) for length in LENGTHS]
    growth["characters"] = {"text": dict(zip(map(str, LENGTHS), points))}
    record = {"base": BASE, "vocabulary": VOCABULARY, "growth": growth}
    write(Path(file), record)
