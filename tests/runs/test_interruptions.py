"""Runs that are killed, interrupted or out of disk space can resume, one session at a time."""

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
    SAVING,
    SMALL,
    assert_same_run,
    environment,
    finish,
    hidden_files,
    history,
    history_lines,
    options,
    posix,
    run_in_process,
    run_subprocess,
    start,
    wait_for_epochs,
)

import rnn_scratch
from rnn_scratch.runs import checkpoint, run_folder

pytestmark = [posix, pytest.mark.faults(by_default=("numpy",))]

# Each epoch takes a few milliseconds.
SETTINGS = {**SMALL, "num_hiddens": 24, "max_tokens": 500, "batch_size": 8, "valid_share": 0.1}

# Program that simulates a full disk by limiting file sizes to `sys.argv[1]` bytes.
LIMITED = """
import resource, sys
from rnn_scratch.cli.main import main
from rnn_scratch.runs import run_writer
run_writer.CHECKPOINT_TIME_FRACTION = 1e9
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


def limited(size, **settings):
    """Train in a process that cannot write files larger than `size` bytes."""
    return run_subprocess(size, "train", *options(**settings), program=("-c", LIMITED))


@pytest.mark.timeout(1800)  # every session imports a framework
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.faults)])
def test_killed_run_resumes_exactly(backend_name, kills):
    seed = random.randrange(10**6)
    print("seed", seed)
    run, rng, starts = Path("killed"), random.Random(seed), []
    arguments = options(backend=backend_name, threads=1, output=run, **SETTINGS)
    for attempt in range(kills):
        is_early = attempt % 5 == 4  # kill some processes during startup
        # A third of the sessions save at the default rate; the rest save after every chunk.
        program = {} if attempt % 3 == 1 else {"program": ("-c", SAVING)}
        process = start("train", *arguments, "--num-epochs", 10**6, **program)
        if not is_early:
            wait_for_epochs(process, run, len(history_lines(run)) + 5)
        time.sleep(rng.uniform(0, 3 if is_early else 0.1))
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
    num_epochs = checkpoint.load(run).epoch + 5
    run_subprocess("train", *arguments, "--num-epochs", num_epochs).assert_exit()
    assert starts == sorted(starts)
    assert starts[0] == 0 < starts[-1]
    assert [s.from_epoch for s in run_folder.read(run).sessions] == [*starts, num_epochs - 5]
    uninterrupted = rnn_scratch.train(
        backend_name, num_epochs=num_epochs, output="whole", threads=1, **SETTINGS
    )
    assert_same_run(run, uninterrupted)
    assert hidden_files(run) == []


def test_command_printed_after_ctrl_c_resumes_exactly(backend_name):
    settings = {"backend": backend_name, "threads": 1, **SETTINGS}
    many = options(output="with a space", num_epochs=10**6, **settings)
    process = start("train", *many, program=("-c", SAVING))
    wait_for_epochs(process, "with a space", 5)
    process.send_signal(signal.SIGINT)
    result = finish(process).assert_exit(130)
    assert result.err.strip() == ""
    *_, notice, line = result.out.splitlines()
    saved = checkpoint.load("with a space")
    assert saved.epoch >= 4
    assert notice == f"Interrupted. Checkpoint saved at {saved.position}. To resume from there:"
    assert line == "rnn-scratch train --resume 'with a space' --num-epochs 1000000"
    (session,) = run_folder.read(Path("with a space")).sessions
    assert (session.outcome, session.to_epoch) == ("interrupted", saved.epoch)
    assert (Path("with a space") / "perplexity.png").exists()

    # Run the printed command in a shell, but with fewer epochs.
    num_epochs = saved.epoch + 5
    line = line.replace("1000000", str(num_epochs))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(line, shell=True, check=True, env=environment(PATH=path), capture_output=True)
    uninterrupted = rnn_scratch.train(num_epochs=num_epochs, output="whole", **settings)
    assert_same_run("with a space", uninterrupted)


def test_full_disk_stops_a_run_that_resumes_exactly():
    settings = {**SETTINGS, "backend": "numpy", "threads": 1, "num_epochs": 150}
    uninterrupted = rnn_scratch.train(output="whole", **settings)
    limit = 3 * uninterrupted.folder.joinpath("checkpoint.safetensors").stat().st_size // 2
    assert limit < uninterrupted.folder.joinpath("history.jsonl").stat().st_size
    result = limited(limit, output="limited", **settings)
    result.assert_error("could not be written", os.strerror(errno.EFBIG), "limited")
    saved = checkpoint.load("limited")
    assert 0 < saved.epoch < 150
    assert f"Checkpoint saved at {saved.position}." in result.out
    assert ". To resume from there:\n" in result.out
    assert hidden_files("limited") == []
    (session,) = run_folder.read(Path("limited")).sessions
    assert (session.outcome, session.to_epoch) == ("failed", saved.epoch)
    assert len(history_lines("limited")) == saved.epoch
    rnn_scratch.resume("limited", 150, threads=1)
    assert_same_run("limited", uninterrupted)


def test_full_disk_after_training_keeps_the_run():
    uninterrupted = rnn_scratch.train("numpy", num_epochs=2, output="other", **SETTINGS)
    size = uninterrupted.folder.joinpath("checkpoint.safetensors").stat().st_size + 1000
    result = limited(size, backend="numpy", output="r", num_epochs=2, **SETTINGS)
    result.assert_error("perplexity.png could not be written")
    assert "The last checkpoint (epoch 2) is in r.\n" in result.out
    assert "--resume" not in result.out
    assert hidden_files("r") == []
    assert run_folder.read(Path("r")).sessions[0].outcome == "finished"


def test_closed_pipe_ends_training_with_a_checkpoint():
    settings = options(backend="numpy", output="r", num_epochs=10**6, **SMALL)
    with start("train", *settings) as process:
        assert process.stdout.readline().startswith("numpy (scratch) on cpu")
        process.stdout.close()
        error = process.stderr.read()
        process.wait(60)
    assert error == ""
    assert process.returncode == 1
    assert checkpoint.load("r").epoch == len(history_lines("r")) >= 1


def training(run, **kwargs):
    """Start a training run; return its process after three epochs."""
    settings = options(output=run, num_epochs=10**6, **SMALL)
    process = start("train", "--backend", "numpy", *settings, program=("-c", SAVING), **kwargs)
    wait_for_epochs(process, run, 3)
    return process


def test_second_session_on_a_run_is_refused(capsys):
    process = training("runs/r")
    try:
        run_in_process(capsys, "train", "--resume", "runs/r", "--num-epochs", 10**6).assert_error(
            "The run in runs/r is being trained by another session",
            "Wait until it ends, or stop it.",
        )
        assert process.poll() is None
    finally:
        process.kill()
        finish(process)
    assert "running or killed" in run_in_process(capsys, "runs").out
    epochs = [row["epoch"] for row in history("runs/r")]
    assert epochs == list(range(1, len(epochs) + 1))
    # The lock was released when the process ended.
    num_epochs = len(epochs) + 2
    run_in_process(capsys, "train", "--resume", "runs/r", "--num-epochs", num_epochs).assert_exit()
    assert [row["epoch"] for row in history("runs/r")] == list(range(1, num_epochs + 1))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_end_training_like_ctrl_c(name):
    signum = getattr(signal, name)
    process = training("r")
    process.send_signal(signum)
    result = finish(process).assert_exit(128 + signum, err="")
    assert re.search(r"Interrupted. Checkpoint saved at (minibatch \d+ of )?epoch \d+.", result.out)
    (session,) = run_folder.read(Path("r")).sessions
    assert (session.outcome, session.reason) == ("interrupted", f"Stopped('{name}')")
    assert checkpoint.load("r").epoch == session.to_epoch >= 3


def test_ignored_signal_stays_ignored():
    process = training("r", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    wait_for_epochs(process, "r", len(history("r")) + 3)
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 128 + signal.SIGTERM
