"""What the presets reach: `python -m measure presets FILE [NANOGPT]`.

Each is trained on one thread, from the command that `train --preset` stands for: with PyTorch, and
`shakespeare` with every backend. Where NANOGPT is a clone of github.com/karpathy/nanoGPT, its
recipe for a CPU is trained as well, on one thread and the same text. The README quotes the file
that this writes. It takes about half an hour.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rnn_scratch
from measure.measuring import alone, rounded, write
from rnn_scratch import registry
from rnn_scratch.runs.presets import PRESETS, SAMPLE
from rnn_scratch.text import books

TEXTS = {"corpus": "time-machine"}  # of a preset that names none
# What was tried before `minute` was chosen: where it differs from that preset.
TRIED = (
    {"num_steps": 64, "dropout": 0.2, "lr": 0.004, "num_epochs": 12},
    {"num_steps": 24, "dropout": 0.2, "lr": 0.004, "num_epochs": 10},
    {"num_steps": 24, "num_epochs": 10},
)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# In the README of nanoGPT: the recipe for a computer without a GPU.
RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1"
    " --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000"
    " --lr_decay_iters=2000 --dropout=0.0"
)


def measure(given: dict[str, Any], backend: str) -> Iterator[dict[str, Any]]:
    """Train, and yield held-out losses in nats, CPU seconds, and a sample of PyTorch's."""
    with tempfile.TemporaryDirectory() as parent:
        start = time.process_time()
        lines: list[str] = []
        report = {"report": lines.append, "run": Path(parent, "run")}
        run = rnn_scratch.train(backend, **given, threads=1, **report)
        seconds = time.process_time() - start
        training = {
            "backend": backend,
            "cpu_seconds": round(seconds),
            "held_out": [rounded(epoch.valid_loss) for epoch in run.history],
            "best_epoch": run.best.epoch,
        }
        if backend == "torch":
            # With these the command ends: three lines of results, and a text.
            training["results"] = lines[-3:]
            training["sample"] = rnn_scratch.predict(run, best=True, **SAMPLE)
        yield training


def peer(folder):
    """Train by nanoGPT's recipe; return the held-out loss that it estimates, and CPU seconds."""
    with tempfile.TemporaryDirectory() as parent:
        clone = shutil.copytree(folder, Path(parent, "nanoGPT"))
        data = clone / "data" / "shakespeare_char"
        text = books.load("tiny-shakespeare").content
        (data / "input.txt").write_text(text, encoding="utf-8")
        where = {"cwd": clone, "env": {**os.environ, **ONE_THREAD}, "text": True}

        def run(*command):
            return subprocess.check_output([sys.executable, *command], **where)

        run(data / "prepare.py")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = run("train.py", *RECIPE.split())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sum(getattr(after, t) - getattr(before, t) for t in ("ru_utime", "ru_stime"))
    return {
        "recipe": RECIPE,
        "cpu_seconds": round(seconds),
        "held_out": float(re.findall(r"val loss ([\d.]+)", output)[-1]),
    }


def main(file, *folders):
    """Train all presets, and write the record."""
    record = {"presets": {}, "temperature": SAMPLE["temperature"]}
    for folder in folders:
        record["nanogpt"] = peer(folder)
    for name in list(PRESETS)[1:]:  # without `chapter`, which has records of its own
        backends = registry.OURS if name == "shakespeare" else ("torch",)
        given = {**TEXTS, **PRESETS[name]}
        trainings = [alone(measure, given, backend, **ONE_THREAD) for backend in backends]
        record["presets"][name] = {"arguments": given, "trainings": trainings}
    tried = [{**TEXTS, **PRESETS["minute"], **changes} for changes in TRIED]
    record["tried"] = [
        {"arguments": given, **alone(measure, given, "torch", **ONE_THREAD)} for given in tried
    ]
    write(file, record)
