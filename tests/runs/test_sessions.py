"""Two sessions on one run, signals that stop one, and folders that are moved or vanish."""

import contextlib
import errno
import itertools
import os
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import (
    SAVING,
    SMALL,
    assert_same_run,
    finish,
    here,
    history,
    options,
    parallel,
    posix,
    start,
    wait_for_epochs,
    wait_until,
)

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, curve, run_folder, sessions
from rnn_scratch.runs.events import Report
from rnn_scratch.system import locks


def training(run, **how):
    """A training that has made three epochs, and goes on."""
    settings = options(run=run, num_epochs=10**6, **SMALL)
    process = start("train", "--backend", "numpy", *settings, program=("-c", SAVING), **how)
    wait_for_epochs(process, run, 3)
    return process


def test_a_second_session_is_refused_with_the_name_of_the_first(capsys):
    process = training("runs/r")
    try:
        session = run_folder.read(Path("runs/r")).sessions[-1]
        here(capsys, "train", "--resume", "runs/r", "--epochs", 10**6).refused(
            "The run in runs/r is being trained by another session",
            f"process {process.pid}, since {session.started}",
            "Wait until it ends, or stop it.",
        )
        assert process.poll() is None
        assert "running" in here(capsys, "runs").out
    finally:
        process.kill()
        finish(process)
    assert "killed" in here(capsys, "runs").out
    epochs = [row["epoch"] for row in history("runs/r")]
    assert epochs == list(range(1, len(epochs) + 1))
    # Its death has released the lock.
    last = len(epochs) + 2
    here(capsys, "train", "--resume", "runs/r", "--epochs", last).ended()
    assert [row["epoch"] for row in history("runs/r")] == list(range(1, last + 1))


def test_resumes_that_start_at_once(tmp_path):
    whole = rnn_scratch.train("numpy", num_epochs=40, run="whole", **SMALL)
    rnn_scratch.train("numpy", num_epochs=2, run="r", **SMALL)
    results = parallel([partial(rnn_scratch.resume, "r", 40)] * 4)
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
    done = finish(process).ended(128 + number, err="")
    assert "Interrupted. The checkpoint of epoch" in done.out
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


# It prints at the first import of the function that starts the command line: before that, a
# traceback is Python's own.
STARTED = """
import sys
from rnn_scratch.cli.__main__ import start

def watch(event, arguments):
    if event == "import" and arguments[0] == "rnn_scratch.system":
        print("Python has started", flush=True)

sys.addaudithook(watch)
start()
"""


@posix
def test_ctrl_c_at_any_moment_of_the_start_has_no_traceback():
    codes = set()
    for moment in range(12):
        settings = options(run=f"r{moment}", num_epochs=10**6, **SMALL)
        process = start("train", "--backend", "numpy", *settings, program=("-c", STARTED))
        assert process.stdout.readline() == "Python has started\n"
        time.sleep(0.05 * moment)
        for _ in range(1 if moment % 2 else 4):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        done = finish(process)
        assert done.err.strip() == "", moment
        codes.add(done.code)
    # Python's last act is to restore the system's own way of handling signals.
    assert codes <= {128 + signal.SIGINT, -signal.SIGINT}


# As a compiled module does that imports NumPy's interface: it prints the exception that it meets,
# and raises another.
COMPILED = """
import os, signal, traceback
try:
    for _ in range({signals}):
        os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    traceback.print_exc()
    raise ImportError("numpy.core.multiarray failed to import")
"""


@posix
@pytest.mark.parametrize(
    ("program", "times"),
    [
        ("signals.install(); import compiled", 1),
        ("signals.REPETITION = 0\nwith signals.deferred(): import compiled", 2),
    ],
)
def test_ctrl_c_during_an_import_has_no_traceback(program, times):
    Path("compiled.py").write_text(COMPILED.format(signals=times))
    begin = "import sys; sys.path.insert(0, '')\nfrom rnn_scratch.system import signals\n"
    finish(start(program=("-c", begin + program))).ended(128 + signal.SIGINT, err="")


# The latter if a file is being written meanwhile.
GONE = r"folder r no longer contains|r(/\S+)? could not be written: No such file"


@posix
@pytest.mark.parametrize("is_removed", [False, True])
def test_a_session_whose_folder_is_moved_stops(capsys, is_removed):
    process = training("r")
    Path("r").rename("moved")
    while is_removed and Path("moved").exists():  # while files are written there
        shutil.rmtree("moved", ignore_errors=True)
    done = finish(process)
    assert re.search(GONE, done.err), done.err
    done.refused()
    assert "--resume" not in done.out
    if is_removed:
        return
    (last,) = run_folder.read(Path("moved")).sessions
    assert (last.process, last.outcome) == (process.pid, "running")
    assert "killed" in here(capsys, "runs", ".").out
    epoch = checkpoint.load("moved").epoch
    assert epoch >= 2
    here(capsys, "train", "--resume", "moved", "--epochs", epoch + 2).ended()
    rnn_scratch.train("numpy", num_epochs=epoch + 2, run="whole", **SMALL)
    assert_same_run("moved", "whole")


@posix
def test_two_folders_that_are_exchanged_at_any_moment_keep_their_runs(monkeypatch):
    """Before any file in the folder of a training is opened, or gets its name."""
    monkeypatch.setattr(sessions, "SHARE", 1e9)
    monkeypatch.setattr(curve, "picture", lambda histories: b"")  # to draw it takes longest
    settings = {**SMALL, "valid_share": 0.2}
    whole = rnn_scratch.train("numpy", num_epochs=2, run="whole", seed=1, **settings)
    rnn_scratch.train("numpy", num_epochs=1, run="kept", **settings)
    kept = {path.name: path.read_bytes() for path in Path("kept").iterdir()}
    for moment in itertools.count():
        for folder in ("r", "other"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree("kept", "other")
        numbers = itertools.count()

        def watched(call, numbers=numbers, moment=moment):
            def called(file, *arguments):
                if Path(file).parts[0] == "r" and next(numbers) == moment:
                    for source, target in (("r", "x"), ("other", "r"), ("x", "other")):
                        os.rename(source, target)
                return call(file, *arguments)

            return called

        class AtStart(Report):
            def started(self, event, watched=watched):
                patch.setattr(os, "open", watched(os.open))
                patch.setattr(os, "replace", watched(os.replace))

        with monkeypatch.context() as patch, contextlib.suppress(RNNScratchError):
            rnn_scratch.train("numpy", num_epochs=1, run="r", seed=1, report=AtStart(), **settings)
        if next(numbers) <= moment:
            break
        assert {path.name: path.read_bytes() for path in Path("r").iterdir()} == kept, moment
        rnn_scratch.resume("other", 2)
        assert_same_run("other", whole)
    assert moment > 15


@posix
def test_a_history_that_is_deleted_is_written_again(capsys):
    process = training("r")
    path = Path("r", run_folder.HISTORY)
    path.unlink()
    wait_until(path.exists, process)
    process.send_signal(signal.SIGTERM)
    finish(process).ended(128 + signal.SIGTERM)
    last = checkpoint.load("r").epoch + 2
    here(capsys, "train", "--resume", "r", "--epochs", last).ended()
    rnn_scratch.train("numpy", run="whole", num_epochs=last, **SMALL)
    assert_same_run("r", "whole")


@posix
def test_a_history_that_is_a_link_stops_the_session():
    process = training("r")
    Path("kept").write_text("precious")
    os.symlink("../kept", "link")
    os.replace("link", Path("r", run_folder.HISTORY))
    finish(process).refused("r/history.jsonl could not be written: ")
    assert checkpoint.load("r").epoch >= 2
    assert Path("kept").read_text() == "precious"


def test_a_second_comparison_into_the_same_folder_is_refused(capsys):
    compare = ("compare", "--backends", "numpy", "--output", "c", "--repeats", 1, "--epochs", 2)
    settings = options(**SMALL)
    first = start(*compare, *settings)
    wait_until(Path("c", locks.LOCK).exists, first)
    wait_until(lambda: locks.is_held(Path("c")), first)  # or this would have the lock
    here(capsys, *compare, *settings).refused("Another comparison writes to c", "--output")
    assert finish(first).code == 0
    here(capsys, *compare, *settings).refused("The folder c is not empty")


@posix
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_lock_that_is_a_link_leaves_what_it_names_as_it_is(capsys, link):
    rnn_scratch.train("numpy", num_epochs=1, run="r", **SMALL)
    lock, kept = Path("r", locks.LOCK), Path("kept")
    kept.write_text("precious")
    lock.unlink()
    link(lock, kept)
    done = here(capsys, "train", "--resume", "r", "--epochs", 2)
    assert kept.read_text() == "precious"
    if lock.is_symlink():
        done.refused("r/.lock could not be written: ", os.strerror(errno.ELOOP))


@posix
def test_a_lock_is_seen_by_a_user_who_may_only_read_it():
    folder = Path("r")
    folder.mkdir()
    user = os.geteuid()
    with locks.hold(folder, str):
        os.chmod(folder / locks.LOCK, 0o444)
        os.chmod(".", 0o755)
        os.seteuid(user or 65534)  # root may write everything
        try:
            assert locks.is_held(folder)
        finally:
            os.seteuid(user)


@posix
def test_a_session_whose_lock_is_deleted_stops_when_another_begins(capsys):
    process = training("r")
    process.send_signal(signal.SIGSTOP)
    Path("r", locks.LOCK).unlink()
    here(capsys, "train", "--resume", "r", "--epochs", len(history("r")) + 2).ended()
    process.send_signal(signal.SIGCONT)
    done = finish(process)
    assert re.search(GONE, done.err), done.err
