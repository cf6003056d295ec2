"""Measure losses and times of the presets: `python -m measure presets FILE [NANOGPT]`.

Every preset except `chapter` trains on one thread with the options of `train --preset`:
`shakespeare` with every backend, the other presets with PyTorch. If NANOGPT, a clone of
github.com/karpathy/nanoGPT, is given, it also trains with its recipe for a CPU, on one thread and
the same text. The README quotes FILE. It takes about half an hour.
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

TEXTS = {"corpus": "time-machine"}  # the presets' default text
# Alternatives tried before `minute` was chosen, as differences from `minute`.
TRIED = (
    {"num_steps": 64, "dropout": 0.2, "lr": 0.004, "num_epochs": 12},
    {"num_steps": 24, "dropout": 0.2, "lr": 0.004, "num_epochs": 10},
    {"num_steps": 24, "num_epochs": 10},
)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# The recipe in nanoGPT's README for a computer without a GPU.
RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1"
    " --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000"
    " --lr_decay_iters=2000 --dropout=0.0"
)


def measure(arguments: dict[str, Any], backend: str) -> Iterator[dict[str, Any]]:
    """Train; yield held-out losses in nats, CPU seconds and, for PyTorch, a sample."""
    with tempfile.TemporaryDirectory() as parent:
        start = time.process_time()
        lines: list[str] = []
        report = {"report": lines.append, "run": Path(parent, "run")}
        run = rnn_scratch.train(backend, **arguments, threads=1, **report)
        seconds = time.process_time() - start
        result = {
            "backend": backend,
            "cpu_seconds": round(seconds),
            "held_out": [rounded(epoch.valid_loss) for epoch in run.history],
            "best_epoch": run.best.epoch,
        }
        if backend == "torch":
            # The end of the command's output: three lines of results, and generated text.
            result["results"] = lines[-3:]
            result["sample"] = rnn_scratch.predict(run, best=True, **SAMPLE)
        yield result


def peer(folder):
    """Train nanoGPT with its recipe; return its estimated held-out loss and its CPU seconds."""
    with tempfile.TemporaryDirectory() as parent:
        clone = shutil.copytree(folder, Path(parent, "nanoGPT"))
        data = clone / "data" / "shakespeare_char"
        text = books.load("tiny-shakespeare").content
        (data / "input.txt").write_text(text, encoding="utf-8")
        env = {**os.environ, **ONE_THREAD}

        def run(*command):
            return subprocess.check_output(
                [sys.executable, *command], cwd=clone, env=env, text=True
            )

        run(data / "prepare.py")
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = run("train.py", *RECIPE.split())
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sum(getattr(end, t) - getattr(start, t) for t in ("ru_utime", "ru_stime"))
    return {
        "recipe": RECIPE,
        "cpu_seconds": round(seconds),
        "held_out": float(re.findall(r"val loss ([\d.]+)", output)[-1]),
    }


def main(file, *folders):
    """Train with the presets and the alternatives tried, and write the record to `file`."""
    record = {"presets": {}, "temperature": SAMPLE["temperature"]}
    for folder in folders:
        record["nanogpt"] = peer(folder)
    for name in list(PRESETS)[1:]:  # the first preset, `chapter`, has separate records
        backends = registry.BUILTIN_BACKENDS if name == "shakespeare" else ("torch",)
        arguments = {**TEXTS, **PRESETS[name]}
        results = [alone(measure, arguments, backend, **ONE_THREAD) for backend in backends]
        record["presets"][name] = {"arguments": arguments, "trainings": results}
    tried = [{**TEXTS, **PRESETS["minute"], **changes} for changes in TRIED]
    record["tried"] = [
        {"arguments": arguments, **alone(measure, arguments, "torch", **ONE_THREAD)}
        for arguments in tried
    ]
    write(file, record)
