"""A power cut at any moment: what is left on the disk is resumed exactly.

A model of a disk replays the system calls of a training. What was synced is there; what was not may
be there or not, data and names each on their own, as file systems differ in this.
"""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest
from helpers import SMALL, assert_same_run, hidden_files, lines

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, run_folder, sessions
from rnn_scratch.runs.run import listing
from rnn_scratch.system import files

# Of these epochs all but the fourth and the last have the lowest loss on held-out text so far.
EPOCHS = 6
SETTINGS = {**SMALL, "lr": 3.0, "valid_share": 0.2}


class Recorder:
    """The module `os`, with an account of the calls that change files."""

    def __init__(self, calls):
        self.calls, self.handles = calls, {}

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, mode=0o777):
        is_new = not os.path.exists(path)
        handle = os.open(path, flags, mode)
        self.handles[handle] = str(path)
        if is_new:
            self.calls.append(("create", str(path)))
        return handle

    def write(self, handle, data):
        size = os.write(handle, data)
        self.calls.append(("write", self.handles[handle], bytes(data[:size])))
        return size

    def fsync(self, handle):
        os.fsync(handle)
        kind = "sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync"
        self.calls.append((kind, self.handles[handle]))

    def ftruncate(self, handle, size):
        os.ftruncate(handle, size)
        self.calls.append(("truncate", self.handles[handle], size))

    def replace(self, source, target):
        os.replace(source, target)
        self.calls.append(("rename", str(source), str(target)))

    def unlink(self, path):
        os.unlink(path)
        self.calls.append(("remove", str(path)))


@contextlib.contextmanager
def recorded():
    """A list, to which each call is added that changes a file or syncs one."""
    calls = []
    files.os = Recorder(calls)
    try:
        yield calls
    finally:
        files.os = os


class File:
    """What has been written to a file, and how much of it is on the disk for certain."""

    def __init__(self):
        self.written = self.synced = b""

    def may_be(self):
        """All, what was synced, half of the rest, or zeros, as the size may come first."""
        length, known = len(self.written), len(self.synced)
        zeros = bytes(length - known)
        return self.written, self.synced, self.written[: (known + length) // 2], self.synced + zeros


def remains(calls):
    """For each number of calls before the power cut, what may be left: name to contents."""
    names, synced_names = {}, {}  # path to file, now and on the disk for certain
    for number, (kind, path, *more) in enumerate(calls, 1):
        if kind == "create":
            names[path] = File()
        elif kind == "write":
            names[path].written += more[0]
        elif kind == "sync":
            names[path].synced = names[path].written
        elif kind == "rename":
            names[more[0]] = names.pop(path)
        elif kind == "remove":
            names.pop(path)
        elif kind == "sync folder":
            elsewhere = {n: f for n, f in synced_names.items() if str(Path(n).parent) != path}
            synced_names = elsewhere | {
                n: f for n, f in names.items() if str(Path(n).parent) == path
            }
        for left in (names, synced_names):
            for which in range(4):
                yield number, {name: file.may_be()[which] for name, file in left.items()}


@pytest.fixture
def whole():
    return rnn_scratch.train("numpy", run="whole", num_epochs=EPOCHS, **SETTINGS)


def saved(calls, number):
    """How many checkpoints have been replaced, and their folder synced, by then."""
    count, renamed = 0, False
    for kind, *rest in calls[:number]:
        if kind == "rename" and rest[1].endswith(checkpoint.FILE):
            renamed = True
        elif kind == "sync folder" and renamed:
            count, renamed = count + 1, False
    return count


def lay(left, folder):
    """Put what is left into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in left.items():
        (folder / Path(name).name).write_bytes(data)


def assert_one_truth(folder, last):
    """Check that every command takes the same state for the latest, also after a repair."""
    texts = set()
    for _ in range(2):
        assert rnn_scratch.evaluate(folder, corpus="tide-clock").trained == last.position
        texts.add(rnn_scratch.predict(folder, "the ", temperature=1.0))
        ((_, _, epochs),) = listing(folder.parent)
        assert [row.epoch for row in epochs] == list(range(1, last.epoch + 1))
        # It refuses to train no more, and repairs the folder.
        with pytest.raises(RNNScratchError, match=f"Nothing left to train: .* {last.epoch} epochs"):
            rnn_scratch.resume(folder, max(1, last.epoch))
        assert checkpoint.load(folder).position == last.position
        assert len(lines(folder)) == last.epoch
    assert len(texts) == 1


@pytest.mark.parametrize("share", [sessions.SHARE, 1e9], ids=["few", "many"])
def test_a_power_cut_after_any_system_call(monkeypatch, tmp_path, whole, share):
    monkeypatch.setattr(sessions, "SHARE", share)
    with recorded() as calls:
        rnn_scratch.train("numpy", run="r", num_epochs=EPOCHS, **SETTINGS)
    kinds = {kind for kind, *_ in calls}
    assert kinds == {"create", "write", "sync", "rename", "sync folder"}
    seen, earlier, folder = set(), {}, tmp_path / "runs" / "cut"
    folder.parent.mkdir()
    for number, left in remains(calls):
        has_started = any(
            kind == "rename" and rest[1].endswith(run_folder.RUN_FILE)
            for kind, *rest in calls[: number - 1]
        )
        if not has_started:
            continue  # nothing is promised: no session has begun
        lay(left, folder)
        # What resuming needs is there, complete and consistent, and as late as was saved last.
        last = checkpoint.load(folder)
        at_least = earlier.setdefault(saved(calls, number), last)
        positions = [(each.epoch, len(each.incomplete.losses)) for each in (at_least, last)]
        assert positions == sorted(positions)
        found = run_folder.read_history(folder, last.history)
        best = run_folder.best(found.epochs)
        assert last.best_epoch == (best.epoch if best else 0)
        key = (*positions[-1], len(lines(folder)))
        if key in seen:
            continue  # resumed already
        seen.add(key)
        if last.epoch:
            assert_one_truth(folder, last)
        if last.epoch < EPOCHS:
            lay(left, folder)
            rnn_scratch.resume(folder, EPOCHS)
            assert hidden_files(folder) == []
        assert_same_run(folder, whole)
    epochs = {epoch for epoch, *_ in seen}
    assert {0, EPOCHS} <= epochs
    assert share < 1 or epochs == set(range(EPOCHS + 1))
