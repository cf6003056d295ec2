"""Simultaneous sessions of one run, and signals that stop a session."""

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
from rnn_scratch.cli.train import BarReport
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, run_folder


def training(run, **kwargs):
    """Start a training run; return its process after three epochs."""
    settings = options(run=run, num_epochs=10**6, **SMALL)
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


def test_simultaneous_resumes_train_once():
    uninterrupted = rnn_scratch.train("numpy", num_epochs=40, run="whole", **SMALL)
    rnn_scratch.train("numpy", num_epochs=2, run="r", **SMALL)
    results = run_in_threads([partial(rnn_scratch.resume, "r", 40)] * 4)
    errors = [str(result) for result in results if isinstance(result, RNNScratchError)]
    assert len(errors) == 3
    # A call that starts after the first call has finished finds nothing left to train.
    assert all("another session" in text or "Nothing left" in text for text in errors)
    assert_same_run("r", uninterrupted)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])  # `test_interruptions` sends SIGINT
def test_signals_end_training_like_ctrl_c(name):
    signum = getattr(signal, name)
    process = training("r")
    process.send_signal(signum)
    result = finish(process).assert_exit(128 + signum, err="")
    assert "Interrupted. Checkpoint saved at epoch" in result.out
    (session,) = run_folder.read(Path("r")).sessions
    assert (session.outcome, session.reason) == ("interrupted", f"Stopped('{name}')")
    assert checkpoint.load("r").epoch == session.to_epoch >= 3


def test_run_without_a_history_is_not_said_to_resume(capsys, monkeypatch):
    def interrupt(report, event):
        raise KeyboardInterrupt

    monkeypatch.setattr(BarReport, "epoch", interrupt)
    monkeypatch.setattr(BarReport, "ended", lambda *_: Path("r", run_folder.HISTORY).unlink())
    train = ("train", "--backend", "numpy", *options(run="r", num_epochs=3, **SMALL))
    result = run_in_process(capsys, *train).assert_exit(130)
    assert "To resume" not in result.out
    run_in_process(capsys, "train", "--resume", "r", "--epochs", 3).assert_error("does not exist")


@posix
def test_ignored_signal_stays_ignored():
    process = training("r", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    wait_for_epochs(process, "r", len(history("r")) + 3)
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 128 + signal.SIGTERM


# Module that prints one exception and raises another, as a compiled module does when it is
# interrupted while it imports NumPy's C API.
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
