"""Measure the speedup from each optimization in `fast`: `python -m measure optimizations FILE`.

Each optimization is undone separately, in a copy of the backend. The copy and the original take
turns in one process. The speedup is the time without the optimization divided by the time with it
(the median over the turns). Headings in `undo` may override the defaults: the `rnn` cell, one
thread, float32 and the chapter's sizes. FILE records the speedups.
"""

import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from make.optimizations import Gain, Gains

from measure.measuring import copy, load, spawn, take_turns
from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, ModelConfig, UpdateRule
from rnn_scratch.system import host, records
from rnn_scratch.training import decoding

B, T = 32, 35
SIZES = (64, 512)  # hidden units
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
UNDO = Path(__file__).parent / "undo"


class Case(Gain):
    """An optimization to measure, and the edits that undo it: file, old lines, new lines."""

    edits: list[tuple[str, str, str]] = []


def cases(backend: str, folder: Path = UNDO) -> list[Case]:
    """Read a backend's optimizations from `BACKEND.diff` in `folder`.

    A heading gives the name and the values that differ from the defaults. Each part of the diff
    below it starts with a file name, has no line numbers, and replaces all matching old lines.
    """
    optimizations = []
    text = Path(folder, f"{backend}.diff").read_text(encoding="utf-8")
    for section in re.split(r"(?m)^# ", text)[1:]:
        heading, *parts = re.split(r"(?m)^@@ ", section)
        name, *changes = heading.strip().split(", ")
        values = {"name": name, **dict(change.split("=") for change in changes)}
        case = msgspec.convert(values, Case, strict=False)
        for file, *lines in (part.splitlines(keepends=True) for part in parts):
            blocks = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
            case.edits.append((file.strip(), *blocks))
        optimizations.append(case)
    return optimizations


def undo(backend, case, folder):
    """Load a copy of the backend with an optimization undone, under a new package name."""
    package = copy(backend, Path(folder))
    for file, old, replacement in case.edits:
        text = "\n" + (package / file).read_text(encoding="utf-8")
        assert f"\n{old}" in text, f"{file} lacks the lines\n{old}change {UNDO}"
        text = text.replace(f"\n{old}", f"\n{replacement}")
        (package / file).write_text(text[1:], encoding="utf-8")
    return load(package)


def gain(backend, case, num_hiddens):
    """Return the time without the optimization divided by the time with it."""
    random = np.random.RandomState(0)
    options = ModelConfig(case.vocabulary, num_hiddens, case.cell)
    arrays = parameters.draw_parameters(options, 0.01, 0)
    tokens = random.randint(0, case.vocabulary, (B, T + 1), "int64")
    batch = Batch(tokens[:, :-1], tokens[:, 1:]).map(np.ascontiguousarray)
    batches = [batch] * max(1, 512 // num_hiddens)  # short turns, because other processes also run
    updates = [UpdateRule()] * len(batches)
    # Prefer processor time, which other processes hardly affect.
    clock = time.process_time if case.threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        modules = (undo(backend, case, folder), backend)
        pair = [(module, module.fast.build(arrays, options)) for module in modules]

        def seconds(module, model):
            start = clock()
            if case.workload == "training":
                _, state = module.scratch.train_epoch(model, batches, updates, True)
                module.machine.synchronize([*state, *model.params.values()], "cpu")
            else:
                module.scratch.predict(model, [0], 200, decoding.greedy)
            return clock() - start

        calls = [partial(seconds, module, model) for module, model in pair]
        turns = zip(*take_turns(calls, min_seconds=6.0))
        return round(statistics.median(slow / fast for slow, fast in turns), 3)


def measure(name: str, index: int) -> Iterator[Gain]:
    """Yield an optimization's speedup; the environment must set the case's thread count."""
    case = cases(name)[index]
    backend, _ = registry.start(name, case.threads)
    gains = {size: gain(backend, case, size) for size in SIZES}
    fields = {field: getattr(case, field) for field in Gain.__struct_fields__}
    yield Gain(**{**fields, "num_hiddens": gains})


def main(file):
    """Measure all optimizations and write the record to `file`."""
    record = Gains()
    for name in registry.BUILTIN_BACKENDS:
        record.machines[name] = host.describe()
        record.versions[name] = registry.probes([name])[name].environment
        record.backends[name] = [
            spawn(measure, name, index, **dict.fromkeys(THREADS, str(case.threads)))
            for index, case in enumerate(cases(name))
        ]
    records.write(Path(file), record)
