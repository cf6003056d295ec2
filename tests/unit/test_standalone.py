"""`standalone`: a program of one file that trains as `train` does, and is fit to be read."""

import itertools
import json
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import CLONE, SETTINGS, here, history, in_one_process, options, parameters, start, there

from rnn_scratch import registry
from rnn_scratch.contract import CELLS, OPTIMIZERS
from rnn_scratch.settings import Settings
from rnn_scratch.show.standalone import program
from rnn_scratch.text import books

PLAIN = {**SETTINGS, "num_epochs": 3}
DEEP = {"cell": "lstm", "optimizer": "adam", "num_layers": 2, "dropout": 0.2, "embedding": 5}
DEEP |= {"weight_decay": 0.01, "schedule": "cosine", "warmup": 4, "theta": 2.0, "seed": 3}
DEEP |= {"sampling": "random", "normalize": "none"}
# Where rnn_scratch cannot be imported, train and save by the programs named; print the losses.
LOSSES = """
import importlib, json, sys
from pathlib import Path
sys.path.insert(0, ".")
sys.modules["rnn_scratch"] = None
for name in sys.argv[1:]:
    rnn = importlib.import_module(name)
    sys.argv = [name, name + ".txt"]
    train = rnn.train
    losses = []
    rnn.train = lambda *args: (losses.append(each[1]) or each for each in train(*args))
    rnn.main()
    print(json.dumps(losses))
"""


def write(name, text, encoding="utf-8"):
    """Write a text file; returns its name."""
    Path(name).write_text(text, encoding=encoding)
    return name


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_it_ends_at_the_losses_and_weights_of_train(own_name):
    story = books.load(books.BUILT_IN).content
    cases = {"plain": PLAIN, "deep": {**PLAIN, **DEEP}}
    commands = []
    for name, settings in cases.items():
        write(f"{name}.py", program(own_name, Settings(**settings), ""))
        write(f"{name}.txt", story, "utf-8-sig")
        run = {**settings, "layers": settings.get("num_layers", 1), "text": f"{name}.txt", "run": name}
        run.pop("num_layers", None)
        commands.append(
            ("train", *options(**run, backend=own_name, device="cpu", threads=1))
        )
    one = {name: "1" for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC")}
    in_one_process(*commands, env=one)
    done = there(*cases, program=("-I", "-c", LOSSES), env=one).ended()
    for name in cases:
        expected = [row["loss"] for row in history(name)]
        assert json.dumps(expected) in done.out.splitlines()
        arrays = dict(np.load(f"{name}.npz"))
        del arrays["vocabulary"]
        for key, array in arrays.items():
            assert array.tobytes() == parameters(name)[key].tobytes(), key


def test_every_program_is_clean_and_none_is_long():
    ruff = pytest.importorskip("ruff").find_ruff_bin()
    kinds = itertools.cycle([{}, {"num_layers": 2}, {"embedding": 4, "dropout": 0.1}])
    rest = itertools.cycle([{"sampling": "random", "theta": None}, {"schedule": "cosine"}])
    for backend in registry.OURS:
        for cell, optimizer in itertools.product(CELLS, OPTIMIZERS):
            settings = Settings(cell=cell, optimizer=optimizer, **next(kinds), **next(rest))
            write(f"rnn_{backend}_{cell}_{optimizer}.py", program(backend, settings, ""))
    how = ("--config", CLONE / "pyproject.toml", ".")
    subprocess.run([ruff, "check", "--quiet", *how], check=True)
    subprocess.run([ruff, "format", "--check", "--quiet", *how], check=True)


@pytest.fixture
def rnn(capsys):
    """The command of a program in NumPy, as `standalone` prints it, and a text of another one."""
    out = here(capsys, "standalone", "numpy", *options(**SETTINGS, epochs=2)).ended(err="").out
    write("rnn.py", out)
    write("book.txt", "The sea came in, and the sea went out.\r\n" * 20)
    return ("-I", "rnn.py")


def test_its_weights_are_loaded_and_write_the_same(rnn):
    trained = there("book.txt", program=rnn).ended(err="").out.splitlines()
    assert [line.split()[:2] for line in trained[:2]] == [["epoch", "1"], ["epoch", "2"]]
    assert there("book.npz", program=rnn).ended(err="").out.splitlines() == trained[2:]


def test_a_mistake_is_one_line(rnn, capsys):
    write("short.txt", "Too short.")
    write("latin.txt", "caf\xe9 " * 100, "latin-1")
    write("other.npz", "PK\x03\x04 and not an archive")
    there("book.txt", program=rnn).ended(err="")
    larger = here(capsys, "standalone", "numpy", *options(**{**SETTINGS, "num_hiddens": 13})).out
    write("larger.py", larger)
    for arguments, words in {
        ("rnn.py",): "python rnn.py book.txt",
        ("rnn.py", "--epochs"): "python rnn.py book.txt",
        ("rnn.py", "none.txt"): "none.txt could not be read",
        ("rnn.py", "none.npz"): "none.npz could not be read",
        ("rnn.py", "latin.txt"): "latin.txt could not be read",
        ("rnn.py", "short.txt"): "short.txt is too short: 9 characters",
        ("rnn.py", "other.npz"): "other.npz could not be read",
        ("larger.py", "book.npz"): "other settings",
    }.items():
        done = there(program=("-I", *arguments)).ended(1)
        assert words in done.err
        assert done.err.count("\n") == 1
    here(capsys, "standalone", "none").refused("There is no backend 'none'")


def test_ctrl_c_saves_what_was_trained(rnn):
    write("rnn.py", Path("rnn.py").read_text("utf-8").replace("num_epochs: int = 2", "num_epochs: int = 10**6").replace("// 20", "// 10**6"))
    process = start("book.txt", program=("-u", *rnn))
    with process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert "Interrupted" in out
    assert there("book.npz", program=rnn).ended(err="").out.strip() in out
