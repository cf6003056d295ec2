"""Measure the presets' losses and times: `python -m measure presets FILE [NANOGPT]`.

Each text is split into three parts; the first 95% is for training and validation, the rest for
testing. Epochs and presets were chosen by validation loss; pages quote test losses. Each preset
trains on its own text, on one thread: `shakespeare` with every backend, `minute` with PyTorch. If
NANOGPT, a clone of github.com/karpathy/nanoGPT, is given, it trains with its CPU recipe on the same
split as `shakespeare`. PyTorch and nanoGPT train with three seeds. An n-gram model is counted on
each text, and compared with one of PyTorch's networks. All runs take 50 minutes in total.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rnn_scratch
from measure.measuring import round_digits, spawn, write
from rnn_scratch import registry
from rnn_scratch.runs import inference
from rnn_scratch.runs.presets import PRESETS, SAMPLE, override
from rnn_scratch.support.experiments import (
    choose_ngrams,
    copied_share,
    count_ngrams,
    ngram_probabilities,
    perplexity,
    sample_ngrams,
)
from rnn_scratch.system import host
from rnn_scratch.text import books, vocabulary

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
NGRAM_SIZES = range(3, 10)  # the validation text decides between them
COPIED_LENGTH, SAMPLED_LENGTH = 20, 20_000  # characters
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


def count(preset: str) -> Iterator[dict[str, Any]]:
    """Count an n-gram model on a preset's text; yield its results next to a network's.

    The network trains on the same text. Both models generate text, of which the share that copies
    the training text is measured.
    """
    arguments = PRESETS[preset]
    known, test = split(arguments["corpus"])
    end = round(len(known) * (1 - VALIDATION_SHARE / (1 - TEST_SHARE)))
    train, validation = known[:end], known[end:]
    characters = sorted(set(known))
    size = len(characters) + 1  # <unk>, as in the networks
    begin = time.process_time()
    n, found = choose_ngrams(train, validation, NGRAM_SIZES, size)
    chosen = time.process_time()
    tables = count_ngrams(train, n)
    table_probabilities = ngram_probabilities(tables, test, size)
    counted = time.process_time()
    tracemalloc.start()
    repeated = count_ngrams(train, n)  # again, because tracing takes time
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del repeated
    network_probabilities, network_sample, parameters = read_and_write(arguments, known, test)
    samples = {
        "n-grams": sample_ngrams(tables, train[:100], SAMPLED_LENGTH, characters)[100:],
        "network": network_sample,
        "test text": test,
    }
    mixed = (table_probabilities + network_probabilities) / 2
    losses = {
        "n-grams": table_probabilities,
        "network": network_probabilities,
        "mean of both": mixed,
    }
    yield {
        "n": n,
        "validation": {str(n): round_digits(float(np.log(value))) for n, value in found.items()},
        "cpu_seconds_to_choose_n": round_digits(chosen - begin),
        "cpu_seconds": round_digits(counted - chosen),
        "processor": host.processor(),
        "numbers": sum(len(kept) + 1 for table in tables for kept, _ in table.values()),
        "megabytes": round_digits(memory / 1e6),
        "parameters of the network": parameters,
        "test": {
            name: round_digits(float(np.log(perplexity(values)))) for name, values in losses.items()
        },
        "copied": {
            name: round_digits(copied_share(text, train, COPIED_LENGTH))
            for name, text in samples.items()
        },
    }


def read_and_write(arguments: dict[str, Any], known: str, test: str) -> tuple[np.ndarray, str, int]:
    """Train with PyTorch; return the test characters' probabilities, a sample, and the size."""
    with tempfile.TemporaryDirectory() as parent:
        file = Path(parent, "train.txt")
        file.write_text(known, encoding="utf-8")
        options = {name: value for name, value in arguments.items() if name != "corpus"}
        options |= {"text": file, "valid_share": VALIDATION_SHARE / (1 - TEST_SHARE)}
        run = rnn_scratch.train("torch", **options, threads=1, output=Path(parent, "run"))
        prefix = known[:100]
        sampling = {"length": SAMPLED_LENGTH, "temperature": 1.0, "seed": 0}
        sample = rnn_scratch.predict(run, prefix=prefix, best=True, **sampling)
        net = inference.load(run, best=True)
    model, scratch, machine = net.model, net.backend.scratch, net.backend.machine
    state, probabilities = scratch.init_state(1, model.options), []
    tokens = vocabulary.encode(test, net.checkpoint.vocab).astype("int64")
    # The first character has no prediction; give it the probability of a character at random.
    probabilities = [np.array([1 / len(net.checkpoint.vocab)])]
    for start in range(0, len(tokens) - 1, 1000):
        read, labels = tokens[start : start + 1000], tokens[start + 1 : start + 1001]
        inputs = machine.tensor(read[None], "cpu")
        logits, state = model.forward(inputs, state, model.params, model.options)
        state = scratch.detach(state)
        powers = np.exp(machine.array(logits).astype("float64"))
        shares = powers / powers.sum(1, keepdims=True)
        probabilities.append(shares[np.arange(len(labels)), labels])
    size = sum(values.size for values in net.params.values())
    return np.concatenate(probabilities), sample[len(prefix) :], size


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
    record["n-grams"] = {name: spawn(count, name, **ONE_THREAD) for name in record["presets"]}
    alternatives = [override("minute", changes) for changes in ALTERNATIVES]
    record["tried"] = [
        {"arguments": arguments, **spawn(measure, arguments, "torch", 0, **ONE_THREAD)}
        for arguments in alternatives
    ]
    write(file, record)
