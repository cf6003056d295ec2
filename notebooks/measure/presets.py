"""Measure the presets' losses and times: `python -m measure presets FILE [NANOGPT]`.

Each text is split into three parts; the first 95% is for training and validation, the rest for
testing. Epochs and presets were chosen by validation loss; pages quote test losses. Each preset
trains on its own text, on one thread: `shakespeare` with every backend, `minute` with PyTorch. If
NANOGPT, a clone of github.com/karpathy/nanoGPT, is given, it trains with its CPU recipe on the same
split as `shakespeare`. PyTorch and nanoGPT train with three seeds. All runs take 45 minutes in
total.
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

import numpy as np

import rnn_scratch
from measure.measuring import round_digits, spawn, write
from rnn_scratch import registry
from rnn_scratch.runs.presets import PRESETS, SAMPLE, override
from rnn_scratch.system import host
from rnn_scratch.text import books

BOOK = "time-machine"  # the README also shows a sample from `minute` trained on this text
SHAKESPEARE = PRESETS["shakespeare"]["corpus"]
TEST_SHARE = VALIDATION_SHARE = 0.05  # fractions of the whole text
# Alternatives tried before `minute` was chosen, as changes to its settings.
ALTERNATIVES = (
    {"num_steps": 64, "dropout": 0.2, "lr": 0.004, "num_epochs": 12},
    {"num_steps": 24, "dropout": 0.2, "lr": 0.004, "num_epochs": 10},
    {"num_steps": 24, "num_epochs": 10},
)
SEEDS = (0, 1, 2)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
CONTEXT = 64  # block_size in the recipe
# The recipe from nanoGPT's README for a computer without a GPU.
RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1"
    " --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000"
    " --lr_decay_iters=2000 --dropout=0.0"
)


def split(corpus: str) -> tuple[str, str]:
    """Split a corpus into a training-and-validation text and a test text."""
    content = books.load(corpus).content
    start = len(content) - int(len(content) * TEST_SHARE)
    return content[:start], content[start:]


def measure(arguments: dict[str, Any], backend: str, seed: int) -> Iterator[dict[str, Any]]:
    """Train; yield the CPU seconds, model size, and validation and test losses in nats."""
    with tempfile.TemporaryDirectory() as parent:
        files = [Path(parent, f"{name}.txt") for name in ("train", "test")]
        for file, part in zip(files, split(arguments["corpus"])):
            file.write_text(part, encoding="utf-8")
        options = {name: value for name, value in arguments.items() if name != "corpus"}
        options |= {"text": files[0], "valid_share": VALIDATION_SHARE / (1 - TEST_SHARE)}
        start = time.process_time()
        run = rnn_scratch.train(
            backend, **options, seed=seed, threads=1, output=Path(parent, "run")
        )
        seconds = time.process_time() - start
        yield {
            "backend": backend,
            "seed": seed,
            "environment": run.record.sessions[-1].environment,
            "processor": host.processor(),
            "cpu_seconds": round(seconds),
            # Optimizer slot names have a prefix, such as "m.".
            "parameters": sum(a.size for name, a in run.arrays.items() if "." not in name),
            "validation": [round_digits(epoch.valid_loss) for epoch in run.history],
            "test": round_digits(rnn_scratch.evaluate(run, text=files[1], best=True).loss),
        }


def run_command(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Train with PyTorch as the README's command does; yield the reported results and a sample."""
    with tempfile.TemporaryDirectory() as parent:
        start = time.process_time()
        lines: list[str] = []
        report = {"report": lines.append, "output": Path(parent, "run")}
        run = rnn_scratch.train("torch", **arguments, threads=1, **report)
        seconds = round(time.process_time() - start)
        sample = rnn_scratch.predict(run, best=True, **SAMPLE)
        results = [line for line in lines if line.startswith(("training text", "held-out", "best"))]
        yield {
            "processor": host.processor(),
            "cpu_seconds": seconds,
            "results": results,
            "sample": sample,
        }


def train_peer(folder: str, seed: int) -> dict[str, Any]:
    """Train nanoGPT with its recipe and a seed; return its losses, size and CPU seconds."""
    with tempfile.TemporaryDirectory() as parent:
        clone = Path(shutil.copytree(folder, Path(parent, "nanoGPT")))
        script = clone / "train.py"  # its fixed seed, 1337, is replaced
        script.write_text(script.read_text().replace("(1337 +", f"({seed} +"))
        data = clone / "data" / "shakespeare_char"
        (data / "input.txt").write_text(books.load(SHAKESPEARE).content, encoding="utf-8")
        env = {**os.environ, **ONE_THREAD}

        def run(*command):
            return subprocess.check_output(
                [sys.executable, *command], cwd=clone, env=env, text=True
            )

        run(data / "prepare.py")  # stores the validation and test text, the last tenth, in val.bin
        tokens = np.fromfile(data / "val.bin", np.uint16)
        start = len(tokens) - len(split(SHAKESPEARE)[1])
        tokens[:start].tofile(data / "val.bin")
        start_usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = run(script, *RECIPE.split())
        end_usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        evaluation = spawn(evaluate_peer, clone, tokens[start - CONTEXT // 2 - 1 :], **ONE_THREAD)
    seconds = sum(getattr(end_usage, t) - getattr(start_usage, t) for t in ("ru_utime", "ru_stime"))
    return {
        "recipe": RECIPE,
        "seed": seed,
        "processor": host.processor(),
        "cpu_seconds": round(seconds),
        "validation": float(re.findall(r"val loss ([\d.]+)", output)[-1]),
        **evaluation,
    }


def evaluate_peer(clone: Path, tokens: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield nanoGPT's size and test loss; predict each token from the previous 33 to 64."""
    import torch

    sys.path.insert(0, str(clone))
    from model import GPT, GPTConfig

    checkpoint = torch.load(clone / "out-shakespeare-char" / "ckpt.pt", weights_only=False)
    model = GPT(GPTConfig(**checkpoint["model_args"])).eval()
    model.load_state_dict(checkpoint["model"])
    total, count = 0.0, 0
    windows = torch.tensor(tokens.astype(np.int64)).unfold(0, CONTEXT + 1, CONTEXT // 2)
    with torch.no_grad():
        for window in windows.split(100):
            logits, _ = model(*(part.contiguous() for part in (window[:, :-1], window[:, 1:])))
            labels = window[:, 1 + CONTEXT // 2 :].flatten()  # the second half of each window
            logits = logits[:, CONTEXT // 2 :].flatten(0, 1)
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            count += len(labels)
    size = sum(parameter.numel() for parameter in model.parameters())
    yield {"parameters": size, "test": round_digits(total / count), "characters": count}


def main(file, *folders):
    """Train with the presets and rejected alternatives, and write the record to `file`."""
    record = {"presets": {}, "temperature": SAMPLE["temperature"]}
    for folder in folders:
        record["nanogpt"] = [train_peer(folder, seed) for seed in SEEDS]
    for name, corpus in ("command", PRESETS["minute"]["corpus"]), ("book", BOOK):
        record[name] = spawn(run_command, PRESETS["minute"] | {"corpus": corpus}, **ONE_THREAD)
    for name, backends in ("minute", ["torch"]), ("shakespeare", registry.BUILTIN_BACKENDS):
        seeds = {backend: SEEDS if backend == "torch" else SEEDS[:1] for backend in backends}
        results = [
            spawn(measure, PRESETS[name], backend, seed, **ONE_THREAD)
            for backend in backends
            for seed in seeds[backend]
        ]
        record["presets"][name] = {"arguments": PRESETS[name], "trainings": results}
    alternatives = [override("minute", changes) for changes in ALTERNATIVES]
    record["tried"] = [
        {"arguments": arguments, **spawn(measure, arguments, "torch", 0, **ONE_THREAD)}
        for arguments in alternatives
    ]
    write(file, record)
