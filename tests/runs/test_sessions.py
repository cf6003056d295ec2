"""Two sessions on one run, signals that stop one, and folders that are moved or vanish."""

import signal
from functools import partial
from pathlib import Path

import pytest
from helpers import (
    SAVING,
    SMALL,
    assert_same_run,
    finish,
    history,
    options,
    posix,
    run_in_process,
    run_in_threads,
    start,
    wait_for_epochs,
)

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, run_folder


def training(run, **how):
    """Start a training run and wait for three epochs."""
    settings = options(run=run, num_epochs=10**6, **SMALL)
    process = start("train", "--backend", "numpy", *settings, program=("-c", SAVING), **how)
    wait_for_epochs(process, run, 3)
    return process


def test_a_second_session_is_refused_with_the_name_of_the_first(capsys):
    process = training("runs/r")
    try:
        run_in_process(capsys, "train", "--resume", "runs/r", "--num-epochs", 10**6).assert_error(
            "The run in runs/r is being trained by another session",
            "Wait until it ends, or stop it.",
        )
        assert process.poll() is None
        assert "running" in run_in_process(capsys, "runs").out
    finally:
        process.kill()
        finish(process)
    assert "killed" in run_in_process(capsys, "runs").out
    epochs = [row["epoch"] for row in history("runs/r")]
    assert epochs == list(range(1, len(epochs) + 1))
    # Its death has released the lock.
    last = len(epochs) + 2
    run_in_process(capsys, "train", "--resume", "runs/r", "--num-epochs", last).assert_exit()
    assert [row["epoch"] for row in history("runs/r")] == list(range(1, last + 1))


def test_resumes_that_start_at_once(tmp_path):
    whole = rnn_scratch.train("numpy", num_epochs=40, run="whole", **SMALL)
    rnn_scratch.train("numpy", num_epochs=2, run="r", **SMALL)
    results = run_in_threads([partial(rnn_scratch.resume, "r", 40)] * 4)
    errors = [str(each) for each in results if isinstance(each, RNNScratchError)]
    assert len(errors) == 3
    # Those that come after the first has finished find nothing left to train.
    assert all("another session" in text or "Nothing left" in text for text in errors)
    assert_same_run("r", whole)


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_each_signal_ends_a_training_as_ctrl_c_does(name):
    number = getattr(signal, name)
    process = training("r")
    process.send_signal(number)
    result = finish(process).assert_exit(128 + number, err="")
    assert "Interrupted. The checkpoint of epoch" in result.out
    (session,) = run_folder.read(Path("r")).sessions
    assert (session.outcome, session.reason) == ("interrupted", f"Stopped('{name}')")
    assert checkpoint.load("r").epoch == session.to_epoch >= 3


@posix
def test_an_ignored_signal_stays_ignored():
    process = training("r", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    wait_for_epochs(process, "r", len(history("r")) + 3)
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 128 + signal.SIGTERM


# As a compiled module does that imports NumPy's interface: it prints the exception that it meets,
# and raises another.
COMPILED = """
import os, signal, traceback
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    traceback.print_exc()
    raise ImportError("numpy.core.multiarray failed to import")
"""


@posix
def test_ctrl_c_during_an_import_has_no_traceback():
    Path("compiled.py").write_text(COMPILED)
    program = """if True:
        import sys; sys.path.insert(0, "")
        from rnn_scratch.system import signals
        signals.install(); import compiled
    """
    finish(start(program=("-c", program))).assert_exit(128 + signal.SIGINT, err="")
