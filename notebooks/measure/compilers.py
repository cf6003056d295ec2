"""Measure the plain loop under each framework's compiler: `python -m measure compilers FILE`.

The patch `compile/BACKEND.diff` applies the compiler to a copy of the backend. The plain model, its
compiled copy, `fast` and the built-in layer take turns in one process, with the `rnn` cell, float32
and the chapter's sizes. FILE records the milliseconds per minibatch and the extra seconds
that the first minibatch takes. The measurement takes about ten minutes.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from measure import optimizations
from measure.measuring import round_digits, spawn, take_turns, write
from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, ModelConfig, UpdateRule

VOCABULARY = 28
FOLDER = Path(__file__).parent / "compile"


def measure(name: str, num_hiddens: int, threads: int) -> Iterator[dict[str, Any]]:
    """Yield milliseconds per minibatch and compilation seconds, keyed by variant."""
    backend, _ = registry.start(name, threads)
    options = ModelConfig(VOCABULARY, num_hiddens)
    arrays = parameters.draw_parameters(options, 0.01, 0)
    B, T = optimizations.B, optimizations.T
    tokens = np.random.RandomState(0).randint(0, VOCABULARY, (B, T + 1), "int64")
    batch = Batch(tokens[:, :-1], tokens[:, 1:]).map(np.ascontiguousarray)

    def seconds(package: Any, model: Any, count: int) -> float:
        start = time.perf_counter()
        updates = [UpdateRule(lr=1.0)] * count
        _, state = package.scratch.train_epoch(model, [batch] * count, updates, True)
        package.machine.synchronize([*state, *model.params.values()], "cpu")
        return (time.perf_counter() - start) / count

    with tempfile.TemporaryDirectory() as folder:
        (case,) = optimizations.cases(name, FOLDER)
        compiled = optimizations.undo(backend, case, folder)
        models = {
            "scratch": (backend, backend.scratch.build(arrays, options)),
            "compiled": (compiled, compiled.scratch.build(arrays, options)),
            "fast": (backend, backend.fast.build(arrays, options)),
            "concise": (backend, backend.concise.build(arrays, options)),
        }
        first = {variant: seconds(*pair, 1) for variant, pair in models.items()}
        count = max(1, 512 // num_hiddens)
        calls = [partial(seconds, *pair, count) for pair in models.values()]
        durations = zip(models, take_turns(calls, min_seconds=12.0))
        medians = {variant: statistics.median(values) for variant, values in durations}
    yield {
        "milliseconds": {variant: round_digits(1e3 * value) for variant, value in medians.items()},
        "compilation": {name: round_digits(first[name] - medians[name]) for name in medians},
    }


def main(file: str) -> None:
    """Measure all frameworks that have a compiler; write the record to `file`."""
    record: dict[str, Any] = {"versions": {}, "frameworks": {}}
    for name in registry.BUILTIN_BACKENDS[1:]:
        record["versions"][name] = registry.probes([name])[name].environment
        record["frameworks"][name] = [
            {
                "num_hiddens": size,
                "threads": threads,
                **spawn(measure, name, size, threads, OMP_NUM_THREADS=str(threads)),
            }
            for size in optimizations.SIZES
            for threads in (1, 2)
        ]
        print(name, record["frameworks"][name], flush=True)
    write(file, record)
