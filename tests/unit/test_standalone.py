"""`standalone`: a program of one file that trains as `train` does."""

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    CLONE,
    SETTINGS,
    finish,
    here,
    history,
    in_one_process,
    options,
    parameters,
    posix,
    start,
    there,
)

from rnn_scratch import registry
from rnn_scratch.contract import CELLS, OPTIMIZERS
from rnn_scratch.runs.presets import SAMPLE
from rnn_scratch.settings import Settings
from rnn_scratch.show.standalone import program
from rnn_scratch.text import books

PLAIN = {**SETTINGS, "num_epochs": 3}
DEEP = {"cell": "lstm", "optimizer": "adam", "num_layers": 2, "dropout": 0.2, "embedding": 5}
DEEP |= {"weight_decay": 0.01, "schedule": "cosine", "warmup": 4, "theta": 2.0, "seed": 3}
DEEP |= {"sampling": "random", "normalize": "spaced", **PLAIN}
# Train by programs, where rnn_scratch cannot be imported; print the losses.
LOSSES = """
import importlib, json, sys
sys.path.insert(0, ".")
sys.modules["rnn_scratch"] = None
for name in sys.argv[1:]:
    rnn, losses = importlib.import_module(name), []
    train, sys.argv = rnn.train, [name, f"{name}.txt"]
    rnn.train = lambda *args: (losses.append(each[1]) or each for each in train(*args))
    rnn.main()
    print(json.dumps(losses))
"""


def write(name, text, encoding="utf-8"):
    Path(name).write_text(text, encoding=encoding)


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_it_ends_at_the_losses_and_weights_of_train_and_writes_what_predict_does(own_name):
    cases = {"plain": PLAIN, "deep": DEEP}
    commands = []
    sample = options(**{**SAMPLE, "prefix": "time traveller "})
    for name, settings in cases.items():
        write(f"{name}.py", program(own_name, Settings(**settings), ""))
        write(f"{name}.txt", books.load(books.BUILT_IN).content, "utf-8-sig")
        run = {**settings, "text": f"{name}.txt", "run": name, "backend": own_name, "device": "cpu"}
        commands.append(("train", *options(**run, threads=1)))
        seed = ("--seed", settings.get("seed", 0))
        commands.append(("predict", name, *sample, *seed, "--threads", 1))
    one = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"), "1")
    outputs = in_one_process(*commands, env=one)
    lines = there(*cases, program=("-I", "-c", LOSSES), env=one).ended().out.splitlines()
    for name, written in zip(cases, outputs[1::2]):
        assert json.dumps([row["loss"] for row in history(name)]) in lines
        assert written.rstrip("\n") in lines
        for key, array in np.load(f"{name}.npz").items():
            if key != "vocabulary":
                assert array.tobytes() == parameters(name)[key].tobytes(), key


def test_the_chapters_program_can_be_read_from_top_to_bottom():
    lines = {backend: program(backend, Settings(), "").count("\n") for backend in registry.OURS}
    assert max(lines.values()) <= 250, lines


def test_every_program_is_clean():
    kinds = itertools.cycle(
        [{}, {"num_layers": 2}, {"embedding": 4, "dropout": 0.1}, {"exact": True}]
    )
    rest = itertools.cycle([{"sampling": "random", "theta": None}, {"schedule": "cosine"}])
    for backend, cell, optimizer in itertools.product(registry.OURS, CELLS, OPTIMIZERS):
        settings = Settings(cell=cell, optimizer=optimizer, **next(kinds), **next(rest))
        write(f"rnn_{backend}_{cell}_{optimizer}.py", program(backend, settings, ""))
    for command in (("check",), ("format", "--check")):
        ruff = (sys.executable, "-m", "ruff", *command, "--quiet", ".")
        subprocess.run([*ruff, "--config", CLONE / "pyproject.toml"], check=True)


@pytest.fixture
def rnn(capsys):
    """A program in NumPy, as the command prints it, that has trained on a text."""
    write("rnn.py", here(capsys, "standalone", "numpy", *options(**SETTINGS, epochs=2)).out)
    write("book.txt", "The sea came in, and the sea went out.\r\n" * 20)
    return there("book.txt", program=("-I", "rnn.py")).ended(err="").out.splitlines()


def test_its_weights_are_loaded_and_write_the_same(rnn):
    assert [line.split()[:2] for line in rnn[:2]] == [["epoch", "1"], ["epoch", "2"]]
    assert there("book.npz", program=("-I", "rnn.py")).ended(err="").out.splitlines() == rnn[2:]


def test_a_mistake_is_one_line(rnn, capsys):
    write("short.txt", "Too short.")
    write("latin.txt", "caf\xe9 " * 100, "latin-1")
    write("other.npz", "PK\x03\x04 and not an archive")
    source = Path("rnn.py").read_text(encoding="utf-8")
    write("larger.py", source.replace("num_hiddens = 12", "num_hiddens = 13"))
    for arguments, words in {
        ("rnn.py",): "python rnn.py book.txt",
        ("rnn.py", "none.txt"): "none.txt cannot be used: [Errno 2] No such file",
        ("rnn.py", "none.npz"): "none.npz cannot be used: [Errno 2] No such file",
        ("rnn.py", "latin.txt"): "latin.txt cannot be used: 'utf-8' codec can't decode",
        ("rnn.py", "short.txt"): "9 characters are too few",
        ("rnn.py", "other.npz"): "other.npz cannot be used",
        ("larger.py", "book.npz"): "other settings",
    }.items():
        done = there(program=("-I", *arguments)).ended(1)
        assert words in done.err
        assert done.err.count("\n") == 1
    here(capsys, "standalone", "none").refused("There is no backend 'none'")


@posix
def test_ctrl_c_saves_what_was_trained(rnn):
    source = Path("rnn.py").read_text(encoding="utf-8")  # which prints twenty lines
    write("rnn.py", source.replace("num_epochs = 2\n", "num_epochs = 10**6\n", 1))
    write("rnn.py", Path("rnn.py").read_text(encoding="utf-8").replace("// 20", "// 10**6"))
    process = start("book.txt", program=("-I", "-u", "rnn.py"))
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    *_, line, sample = finish(process).ended(err="").out.splitlines()
    assert line.startswith("Interrupted")
    assert there("book.npz", program=("-I", "rnn.py")).ended(err="").out == f"{sample}\n"
