"""File systems that lack features, text files that were moved, and links in a received run."""

import errno
import os
import stat
from pathlib import Path

import filelock
import pytest
from helpers import SETTINGS, SMALL, raised_message, run_in_process
from msgspec.structs import replace

import rnn_scratch
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.runs.run_folder import RUN_FILE
from rnn_scratch.system import files, records


def train():
    return rnn_scratch.train("numpy", run="r", num_epochs=2, **SMALL)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_training_ignores_a_folder_that_cannot_be_synced(monkeypatch, code):
    """Raise the errors that CIFS and a network drive in WSL raise when a folder is synced."""
    original = os.fsync

    def fsync(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(code, os.strerror(code))
        original(file)

    monkeypatch.setattr(os, "fsync", fsync)
    assert len(train().history) == 2


def test_replacing_a_file_is_retried(monkeypatch):
    """Raise the error that Windows raises while another program reads the old file."""
    original, errors = os.replace, [PermissionError(), PermissionError()]

    def replace_later(source, target):
        if errors:
            raise errors.pop()
        original(source, target)

    monkeypatch.setattr(files, "RETRY_SECONDS", 0)
    monkeypatch.setattr(os, "replace", replace_later)
    files.replace(Path("file"), b"new")
    assert Path("file").read_bytes() == b"new"
    errors += [PermissionError(errno.EACCES, "Permission denied")] * 100
    message = raised_message(files.replace, Path("file"), b"newer")
    assert message.startswith("file could not be written: Permission denied.\nCopy the folder")
    assert os.listdir() == ["file"]


def test_training_without_locks_warns(monkeypatch):
    def acquire(lock):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with pytest.warns(UserWarning, match="r cannot be locked"):
        train()


def test_error_of_a_moved_text_names_the_run(capsys):
    Path("t.txt").write_text("the clock and the tide. " * 60)
    rnn_scratch.train("numpy", run="r", text="t.txt", num_epochs=1, **SETTINGS)
    Path("t.txt").rename("new.txt")
    for command in (("evaluate", "r"), ("train", "--resume", "r", "--num-epochs", 2)):
        result = run_in_process(capsys, *command)
        result.assert_error(
            f"run in r was trained on the text {Path('t.txt').absolute()}",
            "pass its path as `text`",
        )
        run_in_process(capsys, *command, "--text", "new.txt").assert_exit()


@pytest.mark.parametrize("origin", [r"\\host\share\t.txt", "//host/share/t.txt"])
def test_text_on_another_computer_is_not_opened(monkeypatch, origin):
    run = train()
    saved = checkpoint.load("r")
    text = replace(saved.text, corpus="file", origin=origin)
    checkpoint.save(run.folder / checkpoint.FILE, replace(saved, text=text))
    records.write(run.folder / RUN_FILE, replace(run.record, text=text))
    monkeypatch.setattr("rnn_scratch.text.books.read_file", pytest.fail)
    for call in (lambda: rnn_scratch.evaluate("r"), lambda: rnn_scratch.resume("r", 3)):
        message = raised_message(call)
        assert "which is not on this computer" in message
        assert "If you have this text elsewhere" in message
    assert len(rnn_scratch.resume("r", 3, corpus="tide-clock").history) == 3


def test_link_in_a_received_run_is_not_followed():
    train()
    history, lock = Path("r", run_folder.HISTORY), Path("r", files.LOCK)
    content = history.read_bytes()
    history.rename("victim")
    history.symlink_to("../victim")
    rnn_scratch.resume("r", 3)
    lock.unlink()
    lock.symlink_to("../victim")
    assert "r cannot be locked" in raised_message(rnn_scratch.resume, "r", 4)
    assert Path("victim").read_bytes() == content


def test_folder_without_a_record_is_reused():
    """Train in a folder where a killed process left a lock and a temporary file, but no record."""
    Path("r").mkdir()
    for name in (files.LOCK, f".run.json.1234{files.TEMPORARY}"):
        Path("r", name).touch()
    assert len(train().history) == 2
