"""Resume exactly from the files that a power cut at any moment leaves on the disk.

A simulated disk replays the system calls of a training run. Synced data are on the disk. Unsynced
data and unsynced names may independently be on the disk or not, because file systems differ.
"""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest
from helpers import SMALL, assert_same_run, hidden_files, history_lines

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, run_folder, sessions
from rnn_scratch.runs.run import listing
from rnn_scratch.system import files

# Each epoch except the fourth and the last reduces the lowest loss on held-out text.
EPOCHS = 6
SETTINGS = {**SMALL, "lr": 3.0, "valid_share": 0.2}


class Recorder:
    """Replace `os` and `open` in `files`, and record the calls that change files."""

    def __init__(self, calls):
        self.calls, self.handles = calls, {}

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags):
        handle = os.open(path, flags)
        self.handles[handle] = str(path)
        return handle

    @contextlib.contextmanager
    def open_file(self, path, mode):
        is_new = not os.path.exists(path)
        with open(path, mode, buffering=0) as file:
            self.handles[file.fileno()] = str(path)
            if is_new:
                self.calls.append(("create", str(path)))
            yield RecordedFile(file, str(path), self.calls)

    def fsync(self, handle):
        os.fsync(handle)
        kind = "sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync"
        self.calls.append((kind, self.handles[handle]))

    def replace(self, source, target):
        os.replace(source, target)
        self.calls.append(("rename", str(source), str(target)))


class RecordedFile:
    def __init__(self, file, path, calls):
        self.file, self.path, self.calls = file, path, calls
        self.fileno, self.flush = file.fileno, file.flush
        self.read = file.read

    def write(self, data):
        assert self.file.write(data) == len(data)
        self.calls.append(("write", self.path, bytes(data)))


@contextlib.contextmanager
def recorded():
    """Yield a list of the calls that change or sync files."""
    calls = []
    recorder = Recorder(calls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", recorder)
        patch.setattr(files, "open", recorder.open_file, raising=False)
        yield calls


class File:
    """The written and the synced contents of a file."""

    def __init__(self):
        self.written = self.synced = b""

    def may_be(self):
        """Return the possible contents: all, synced, half of the rest, or zeros."""
        length, known = len(self.written), len(self.synced)
        zeros = bytes(length - known)
        return self.written, self.synced, self.written[: (known + length) // 2], self.synced + zeros


def remains(calls):
    """Yield the number of calls before the power cut and possible remaining files."""
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
    """Return the number of checkpoints that are certainly on the disk."""
    count, renamed = 0, False
    for kind, *rest in calls[:number]:
        if kind == "rename" and rest[1].endswith(checkpoint.FILE):
            renamed = True
        elif kind == "sync folder" and renamed:
            count, renamed = count + 1, False
    return count


def lay(left, folder):
    """Write the remaining files into an empty folder."""
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
        with pytest.raises(RNNScratchError, match=f"Nothing left to train: .* {last.epoch} epochs"):
            rnn_scratch.resume(folder, max(1, last.epoch))
        assert checkpoint.load(folder).position == last.position
    assert len(texts) == 1


@pytest.mark.parametrize("share", [sessions.CHECKPOINT_TIME_FRACTION, 1e9], ids=["few", "many"])
def test_a_power_cut_after_any_system_call(monkeypatch, tmp_path, whole, share):
    monkeypatch.setattr(sessions, "CHECKPOINT_TIME_FRACTION", share)
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
            continue  # no guarantee before the first session begins
        lay(left, folder)
        if not (folder / checkpoint.FILE).exists():
            assert not saved(calls, number)
            assert run_folder.history(folder) == []
            if "record alone" not in seen:  # the run restarts from its record
                seen.add("record alone")
                ((_, _, epochs),) = listing(folder.parent)
                assert epochs == []
                rnn_scratch.resume(folder, EPOCHS)
                assert_same_run(folder, whole)
            continue
        # The files for resuming are complete and consistent, and not older than the last save.
        last = checkpoint.load(folder)
        at_least = earlier.setdefault(saved(calls, number), last)
        positions = [(each.epoch, len(each.incomplete.losses)) for each in (at_least, last)]
        assert positions == sorted(positions)
        found = run_folder.history(folder, last.history_size, last.history_sha256)
        best = run_folder.best(found)
        assert last.best_epoch == (best.epoch if best else 0)
        key = (*positions[-1], len(history_lines(folder)))
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
    assert "record alone" in seen
    epochs = {epoch for epoch, *_ in seen - {"record alone"}}
    assert {0, EPOCHS} <= epochs
    assert share < 1 or epochs == set(range(EPOCHS + 1))
