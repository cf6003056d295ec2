"""Unusual paths, moved text files, and file systems that lack features."""

import errno
import os
import shutil
import stat
from functools import partial
from pathlib import Path

import pytest
from helpers import SETTINGS, SMALL, linux, options, raised_message, run_in_process

import rnn_scratch
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.runs.run_folder import RUN_FILE
from rnn_scratch.system import files

TRAIN = ("train", "--backend", "numpy", "--output", "r", *options(num_epochs=2, **SMALL))
TEXT = "the clock and the tide. " * 60
RESUME = ("train", "--resume", "r", "--num-epochs", 3)


def train():
    return rnn_scratch.train("numpy", output="r", num_epochs=2, **SMALL)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_training_ignores_a_folder_that_cannot_be_synced(monkeypatch, code):
    """Simulate the errors that CIFS and WSL's network drives report when a folder is synced."""
    original = os.fsync

    def fsync(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(code, os.strerror(code))
        original(file)

    monkeypatch.setattr(os, "fsync", fsync)
    assert len(train().history) == 2


def test_replacing_a_file_is_retried(monkeypatch):
    """Simulate a file system that reports an error while another program has the old file open."""
    busy = OSError(errno.EBUSY, "Device or resource busy")
    original, errors = os.replace, [busy, busy]

    def replace_later(source, target):
        if errors:
            raise errors.pop()
        original(source, target)

    monkeypatch.setattr(files, "RETRY_INTERVAL", 0.01)
    monkeypatch.setattr(os, "replace", replace_later)
    files.replace(Path("file"), b"new")
    assert Path("file").read_bytes() == b"new"
    monkeypatch.setattr(files, "RETRY_SECONDS", 0.1)
    errors += [busy] * 1000
    message = raised_message(files.replace, Path("file"), b"newer")
    assert message == "file could not be written: Device or resource busy."
    errors[:] = [PermissionError(errno.EACCES, "Permission denied")]
    message = raised_message(files.replace, Path("file"), b"newer")
    assert message.startswith("file could not be written: Permission denied.\nCopy the folder")
    assert os.listdir() == ["file"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_training_without_locks_prints_a_warning(monkeypatch, capsys, code):
    def flock(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    for command in (TRAIN, RESUME):
        result = run_in_process(capsys, *command).assert_exit(err="")
        problem = f"Could not lock r ([Errno {code}] {os.strerror(code)}). "
        assert f"{problem}Do not run two commands on it at once.\n" in result.out


def test_moved_text_is_named_and_then_accepted(capsys):
    Path("t.txt").write_text(TEXT)
    rnn_scratch.train("numpy", output="r", text="t.txt", num_epochs=1, **SETTINGS)
    Path("t.txt").rename("new.txt")
    problem = f"run in r was trained on the text {Path('t.txt').absolute()}"
    for command in (("evaluate", "r"), RESUME):
        run_in_process(capsys, *command).assert_error(problem, "pass its path as `--text`")
    shutil.copytree("r", "killed")
    resumed = rnn_scratch.resume("r", 2, text="new.txt")
    assert resumed.record.text.origin == str(Path("new.txt").absolute())
    assert rnn_scratch.evaluate("r").source.endswith("new.txt (training text)")
    # A session killed during startup may have written the new path only to the record.
    shutil.copy(Path("r", RUN_FILE), "killed")
    assert len(rnn_scratch.resume("killed", 3, text="new.txt").history) == 3


@linux
def test_name_that_is_not_utf8_is_recorded(capsys):
    path = os.fsdecode(b"\xff.txt")
    Path(path).write_text(TEXT)
    folder = os.fsdecode(b"r\xff")
    run = rnn_scratch.train("numpy", output=folder, text=path, num_epochs=1, **SETTINGS)
    assert run.record.text.origin.endswith("\\udcff.txt")
    assert "If you have this text elsewhere" in raised_message(rnn_scratch.resume, folder, 2)
    assert len(rnn_scratch.resume(folder, 2, text=path).history) == 2


def test_home_folder_is_expanded(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    Path("home").mkdir()
    Path("home", "t.txt").write_text(TEXT)
    text = ("--text=~/t.txt", *options(num_epochs=1, **SETTINGS))
    run_in_process(capsys, "train", "--backend=numpy", "--output=~/x", *text).assert_exit()
    assert Path("home", "x", RUN_FILE).exists()
    for path in ("~/x", f"~/x/{checkpoint.FILE}", Path("~/x")):
        assert rnn_scratch.predict(path)
    assert len(rnn_scratch.resume("~/x", 2).history) == 2
    assert str(Path("home", "x")) in run_in_process(capsys, "runs", "~").assert_exit().out
    compare = ("compare", "--backends=numpy", "--corpus=tide-clock", "--output=~/x")
    run_in_process(capsys, *compare).assert_error("x is not empty")
    assert [*Path().iterdir()] == [Path("home")]


def test_path_with_nul_is_refused():
    for call in (
        partial(rnn_scratch.predict, "a\0b"),
        partial(rnn_scratch.resume, "a\0b", 2),
        partial(rnn_scratch.train, "numpy", output="a\0b", **SMALL),
        partial(rnn_scratch.train, "numpy", text="a\0b"),
    ):
        assert raised_message(call) == "The path 'a\\x00b' contains a NUL character.\nRemove it."


def test_line_ends_changed_by_git_are_accepted():
    train()
    for name in (run_folder.HISTORY, RUN_FILE):
        path = Path("r", name)
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(rnn_scratch.resume("r", 3).history) == 3
    assert b"\r" not in Path("r", run_folder.HISTORY).read_bytes()


def test_folder_without_a_record_is_reused():
    """Train in a folder where a killed process left a lock and a temporary file."""
    Path("r").mkdir()
    for name in (files.LOCK, f".run.json.1234{files.TEMPORARY}"):
        Path("r", name).touch()
    assert len(train().history) == 2
