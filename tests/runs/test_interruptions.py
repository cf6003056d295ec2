"""Runs that are killed, interrupted, or fill the disk: what remains can be resumed."""

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    LIMITED,
    SAVING,
    SMALL,
    assert_same_run,
    environment,
    finish,
    hidden_files,
    history,
    lines,
    options,
    posix,
    start,
    there,
    wait_for_epochs,
)

import rnn_scratch
from rnn_scratch.runs import checkpoint, run_folder

pytestmark = [posix, pytest.mark.faults(by_default=("numpy",))]

# Epochs of a few milliseconds.
SETTINGS = {**SMALL, "num_hiddens": 24, "max_tokens": 500, "batch_size": 8, "valid_share": 0.1}


def limited(size, **settings):
    """Train with a limit on the size of files."""
    return there(size, "train", *options(**settings), program=("-c", LIMITED))


@pytest.mark.timeout(1800)  # it starts a framework again and again
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.faults)])
def test_a_run_killed_at_any_moment_and_resumed(backend_name, kills):
    seed = random.randrange(10**6)
    print("seed", seed)
    run, chance, starts = Path("killed"), random.Random(seed), []
    arguments = options(backend=backend_name, threads=1, run=run, **SETTINGS)
    for number in range(kills):
        is_early = number % 5 == 4  # a few kills strike the start of the process
        # Some trainings save as often as a user's, most at every opportunity.
        program = {} if number % 3 == 1 else {"program": ("-c", SAVING)}
        process = start("train", *arguments, "--epochs", 10**6, **program)
        if not is_early:
            wait_for_epochs(process, run, len(lines(run)) + 5)
        time.sleep(chance.uniform(0, 3 if is_early else 0.1))
        process.send_signal(signal.SIGKILL)
        assert finish(process).code == -signal.SIGKILL
        saved, epochs = checkpoint.load(run), [row["epoch"] for row in history(run)]
        assert all(np.isfinite(array).all() for array in saved.arrays.values())
        assert epochs == list(range(1, len(epochs) + 1))
        assert (starts[-1] if starts else 0) <= saved.epoch <= len(epochs)
        if program and not is_early:
            assert saved.epoch >= len(epochs) - 1
        sessions = run_folder.read(run).sessions
        assert sessions[-1].outcome == "running"
        starts = [session.from_epoch for session in sessions]
        arguments = ("--resume", run, "--threads", 1)
    last = checkpoint.load(run).epoch + 5
    there("train", *arguments, "--epochs", last).ended()
    assert starts == sorted(starts)
    assert starts[0] == 0 < starts[-1]
    assert [s.from_epoch for s in run_folder.read(run).sessions] == [*starts, last - 5]
    whole = rnn_scratch.train(backend_name, num_epochs=last, run="whole", threads=1, **SETTINGS)
    assert_same_run(run, whole)
    assert hidden_files(run) == []


def test_ctrl_c_keeps_the_checkpoint_and_the_printed_command_resumes(backend_name):
    settings = {"backend": backend_name, "threads": 1, **SETTINGS}
    many = options(run="with a space", num_epochs=10**6, **settings)
    process = start("train", *many, program=("-c", SAVING))
    wait_for_epochs(process, "with a space", 5)
    process.send_signal(signal.SIGINT)
    done = finish(process).ended(130)
    assert done.err.strip() == ""
    *_, kept, line = done.out.splitlines()
    saved = checkpoint.load("with a space")
    assert saved.epoch >= 4
    assert re.fullmatch(
        f"Interrupted. The checkpoint of epoch {saved.epoch}"
        "( and [0-9]+ minibatch(es)? of the next)? is kept. To resume from there:",
        kept,
    )
    assert line == "rnn-scratch train --resume 'with a space' --epochs 1000000"
    (session,) = run_folder.read(Path("with a space")).sessions
    assert (session.outcome, session.to_epoch) == ("interrupted", saved.epoch)
    assert (Path("with a space") / "perplexity.png").exists()

    # The printed line in a shell, but for the number of epochs.
    last = saved.epoch + 5
    line = line.replace("1000000", str(last))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(line, shell=True, check=True, env=environment(PATH=path), capture_output=True)
    whole = rnn_scratch.train(num_epochs=last, run="whole", **settings)
    assert_same_run("with a space", whole)


def test_a_history_that_cannot_grow_stops_the_run(backend_name):
    settings = {**SETTINGS, "backend": backend_name, "threads": 1, "num_epochs": 150}
    whole = rnn_scratch.train(run="whole", **settings)
    limit = 3 * whole.folder.joinpath("checkpoint.safetensors").stat().st_size // 2
    assert limit < whole.folder.joinpath("history.jsonl").stat().st_size
    done = limited(limit, run="limited", **settings)
    done.refused("could not be written", os.strerror(errno.EFBIG), "limited")
    epoch = checkpoint.load("limited").epoch
    assert 0 < epoch < 150
    # The epoch that could not be written is kept as all the minibatches of the next.
    assert f"The checkpoint of epoch {epoch} and " in done.out
    assert "is kept. To resume from there:\n" in done.out
    assert hidden_files("limited") == []
    (session,) = run_folder.read(Path("limited")).sessions
    assert (session.outcome, session.to_epoch) == ("failed", epoch)
    text = Path("limited/history.jsonl").read_bytes()
    assert len(text) == limit
    assert text.count(b"\n") == epoch
    assert not text.endswith(b"\n"), "the last line should be incomplete"
    rnn_scratch.resume("limited", 150, threads=1)
    assert_same_run("limited", whole)


def test_a_full_disk_after_the_last_epoch_keeps_the_run():
    other = rnn_scratch.train("numpy", num_epochs=2, run="other", **SETTINGS)
    size = other.folder.joinpath("checkpoint.safetensors").stat().st_size + 1000
    done = limited(size, backend="numpy", run="r", num_epochs=2, **SETTINGS)
    done.refused("perplexity.png could not be written")
    assert "The checkpoint of epoch 2, the last one, is kept in r.\n" in done.out
    assert "--resume" not in done.out
    assert hidden_files("r") == []
    assert run_folder.read(Path("r")).sessions[0].outcome == "finished"


# Fonts are read when there is text to draw: for the curve, after the last epoch.
NO_FONTS = """
import sys
from rnn_scratch.cli.main import main

def refuse(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".ttf"):
        raise OSError(24, "Too many open files", arguments[0])

sys.addaudithook(refuse)
main()
"""


def test_a_font_that_cannot_be_read_keeps_the_run():
    settings = options(backend="numpy", run="r", num_epochs=2, **SETTINGS)
    done = there("train", *settings, program=("-c", NO_FONTS))
    done.refused("Matplotlib cannot draw the figures", "Too many open files", ".ttf")
    assert "The checkpoint of epoch 2, the last one, is kept in r.\n" in done.out


# From a moment of the start on, no more files can be opened than this.
FEW_FILES = """
import resource, sys
from rnn_scratch.cli.main import main
from rnn_scratch.runs import run_folder

def create(*arguments, create=run_folder.create):
    folder = create(*arguments)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), 100))
    return folder

run_folder.create = create
main(sys.argv[2:])
"""


@pytest.mark.parametrize("files", [3, 4])
def test_a_start_with_too_many_open_files_leaves_no_folder(files):
    pytest.importorskip("resource")
    settings = options(backend="numpy", run="r", num_epochs=2, **SETTINGS)
    done = there(files, "train", *settings, program=("-c", FEW_FILES))
    done.refused("could not be written: Too many open files")
    assert not Path("r").exists()


def test_the_reader_of_the_output_exits():
    settings = options(backend="numpy", run="r", num_epochs=10**6, **SMALL)
    with start("train", *settings) as process:
        assert process.stdout.readline().startswith("numpy (scratch) on cpu")
        process.stdout.close()
        error = process.stderr.read()
        process.wait(60)
    assert error == ""
    assert process.returncode == 1
    assert checkpoint.load("r").epoch == len(lines("r")) >= 10
