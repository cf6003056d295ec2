"""Train and time programs in C, Rust and JavaScript: `python -m measure programs FILE [EPOCHS]`.

Each program trains in exact mode with the chapter's settings for EPOCHS epochs (default: 500), at
the end of which its digest must be the one in ``records/exact.json``. Then builds of `rnn.c` take
turns with the `scratch` variants of NumPy and PyTorch, each with one thread. All times are CPU
seconds. The measurement needs `cc`, `rustc` and `node`, and takes about half an hour, and two hours
more for JavaScript.
"""

import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from measure.measuring import round_digits, spawn, take_turns, write
from rnn_scratch import registry
from rnn_scratch.check import vector_calls, vector_files, vectors
from rnn_scratch.contract import Arrays, ModelConfig, UpdateRule
from rnn_scratch.exact import digest
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, minibatches

FOLDER = Path("notebooks/programs")
# Commands that compile a program, if needed, and run it.
COMMANDS = {
    "rnn.c": (("cc", "-O3", "-o", "rnn", "rnn.c", "-lm"), ("./rnn",)),
    "rnn.rs": (("rustc", "-O", "rnn.rs"), ("./rnn",)),
    "rnn.mjs": ((), ("node", "rnn.mjs")),
}
# Options for the builds of rnn.c whose speed is measured.
BUILDS = {"C": (), "C, optimized": ("-march=native", "-ffast-math")}
BACKENDS = ("numpy", "torch")
SIZES = (64, 512)
VOCABULARY = 28
CHUNK = 10  # epochs per call, because a program writes the parameters after each epoch


def build(name: str, folder: Path, options: Sequence[str] = ()) -> None:
    """Copy a program to a folder and compile it; the result is called ``rnn``."""
    (folder / name).write_bytes((FOLDER / name).read_bytes())
    if compiler := COMMANDS[name][0]:
        subprocess.run([*compiler, *options], check=True, cwd=folder)


def run(name: str, folder: Path, groups: list[vector_calls.Group]) -> tuple[float, Arrays]:
    """Let a program answer these groups; return its CPU seconds and the last trained arrays."""
    place = f"{vectors.TRAINING}/{len(groups[-1].inputs['offsets'])}"
    if name == "rnn.mjs":
        path = folder / "vectors.json"
        path.write_text(vector_files.write_json(groups, 0, "float64"), encoding="utf-8")
        seconds = answer(name, folder, path)
        answers = json.loads((folder / "answers.json").read_bytes())["answers"]
        return seconds, {key: np.array(value) for key, value in answers[place].items()}
    path = folder / "vectors.txt"
    path.write_text(vector_files.write_text(groups, 0, "float64"), encoding="utf-8")
    return answer(name, folder, path), read_last(folder / "answers.txt", place)


def answer(name: str, folder: Path, path: Path) -> float:
    """Let a program answer the vectors in a file; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [*COMMANDS[name][1], path.name, f"answers{path.suffix}"]
    subprocess.run(command, check=True, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def training_group(
    arrays: Arrays, tokens: np.ndarray, offsets: Sequence[int], settings: Settings
) -> vector_calls.Group:
    """Return the vectors' training group for epochs that start at these offsets."""
    H, V = arrays["W_hq"].shape
    B, T = settings.batch_size, settings.num_steps
    numbers = {"lr": settings.lr, "theta": settings.theta, "batch_size": B, "num_steps": T}
    inputs = {**arrays, "scale": np.array(1.0), "tokens": tokens, "offsets": np.array(offsets)}
    inputs |= {name: np.array(number) for name, number in numbers.items()}
    options = ModelConfig(V, H, dtype=settings.dtype)
    return vector_calls.Group(vectors.TRAINING, options, B, T, inputs, [])


def read_last(path: Path, place: str) -> Arrays:
    """Return a test's outputs in an answers file, which may be too large for `check`."""
    arrays = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith(f"{place} "):
                _, _, name, axes, *rest = line.split()
                shape = [int(size) for size in rest[: int(axes)]]
                arrays[name] = np.array(rest[int(axes) :], "float64").reshape(shape)
    return arrays


def train(name: str, settings: Settings) -> dict[str, Any]:
    """Train in exact mode with a program; return its CPU seconds and the last digest."""
    text = dataset.prepare(books.load("time-machine"), settings)
    options = ModelConfig(len(text.vocab), settings.num_hiddens)
    arrays = draw_parameters(options, settings.sigma, settings.seed)
    groups, seconds = vectors.make(["rnn"], training=False), 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build(name, folder)
        for first in range(1, settings.num_epochs + 1, CHUNK):
            epochs = range(first, min(first + CHUNK, settings.num_epochs + 1))
            offsets = [
                minibatches.draw_offset(settings.num_steps, settings.seed, e) for e in epochs
            ]
            group = training_group(arrays, text.train, offsets, settings)
            duration, arrays = run(name, folder, [*groups, group])
            seconds += duration
            print(f"{name}, epoch {epochs[-1]}: {digest(arrays)}, {seconds:.0f} s", flush=True)
    return describe(name) | {
        "epochs": settings.num_epochs,
        "cpu_seconds": round(seconds),
        "digest": digest(arrays),
    }


def describe(name: str) -> dict[str, str]:
    """Return a program's name, and the version and command of its compiler or interpreter."""
    command = COMMANDS[name][0] or COMMANDS[name][1]
    version = subprocess.run([command[0], "--version"], check=True, capture_output=True, text=True)
    compiler = version.stdout.splitlines()[0]
    if command[0] == "node":
        compiler = f"Node {compiler}"  # it prints only the version
    return {"program": name, "compiler": compiler, "command": " ".join(command)}


def measure(num_hiddens: int, dtype: str) -> Iterator[dict[str, Any]]:
    """Yield the CPU milliseconds per minibatch of the builds of rnn.c and of the backends."""
    settings = Settings(num_hiddens=num_hiddens, dtype=dtype)
    B, T = settings.batch_size, settings.num_steps
    count = 4096 // num_hiddens  # minibatches per call
    options = ModelConfig(VOCABULARY, num_hiddens, dtype=dtype)
    arrays = draw_parameters(options, settings.sigma, settings.seed)
    tokens = np.random.RandomState(0).randint(0, VOCABULARY, B * T * (count + 1) + 1)
    few = vectors.make(["rnn"], dtype=dtype, training=False)

    def seconds_of_build(folder: Path) -> float:
        # Subtract the time for one minibatch, which includes reading and writing.
        long, short = (answer("rnn.c", folder, folder / f"{x}.txt") for x in ("long", "short"))
        return (long - short) / count

    def seconds_of_backend(backend: Any, model: Any) -> float:
        batches = [*minibatches.sequential(tokens, B, T, 0)][:count]
        rule, start = UpdateRule(lr=settings.lr, theta=settings.theta), time.process_time()
        backend.scratch.train_epoch(model, batches, [rule] * count, True)
        return (time.process_time() - start) / count

    calls, real = {}, {"float32": "float", "float64": "double"}[dtype]
    with tempfile.TemporaryDirectory() as place:
        for name, flags in BUILDS.items():
            folder = Path(place, name)
            folder.mkdir()
            build("rnn.c", folder, [*flags, f"-DREAL={real}"])
            for file, length in (("long", len(tokens)), ("short", B * T + 1)):
                groups = [*few, training_group(arrays, tokens[:length], [0], settings)]
                content = vector_files.write_text(groups, 0, dtype)
                (folder / f"{file}.txt").write_text(content, encoding="utf-8")
            calls[name] = partial(seconds_of_build, folder)
        for name in BACKENDS:
            backend, _ = registry.start(name, threads=1)
            calls[name] = partial(
                seconds_of_backend, backend, backend.scratch.build(arrays, options)
            )
        durations = dict(zip(calls, take_turns(calls.values(), min_seconds=30.0)))
    yield {
        name: round_digits(1e3 * statistics.median(values)) for name, values in durations.items()
    }


def main(file: str, epochs: str = "500") -> None:
    """Train, measure the speed, and write the record to `file`."""
    settings = Settings(num_epochs=int(epochs), exact=True)
    record: dict[str, Any] = {"trainings": [train(name, settings) for name in COMMANDS]}
    record["builds"] = {name: " ".join(("-O3", *options)) for name, options in BUILDS.items()}
    record["milliseconds"] = []
    for size in SIZES:
        for dtype in ("float32", "float64"):
            row = {"num_hiddens": size, "dtype": dtype}
            record["milliseconds"].append(row | spawn(measure, size, dtype, OMP_NUM_THREADS="1"))
            print(record["milliseconds"][-1], flush=True)
    write(file, record)
