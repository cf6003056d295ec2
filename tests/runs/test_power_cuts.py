"""Resume exactly from the files that remain on disk after a power cut at any moment.

A simulated disk replays the system calls of a training run. Synced data survives a cut. Unsynced
file names either all survive or are all lost. Because file systems differ, unsynced data is kept,
lost, cut in half or replaced by zeros.
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
from rnn_scratch.runs import checkpoint, run_folder, run_writer
from rnn_scratch.runs.run import list_runs
from rnn_scratch.system import files

# Each epoch except the fourth lowers the best held-out loss.
EPOCHS = 5
SETTINGS = {**SMALL, "lr": 3.0, "valid_share": 0.2}


class Recorder:
    """A replacement for `os` and `open` in `files` that records file-changing calls."""

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
    """Yield a list that collects the calls that change or sync files."""
    calls = []
    recorder = Recorder(calls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", recorder)
        patch.setattr(files, "open", recorder.open_file, raising=False)
        yield calls


class File:
    """A simulated file, with its written and synced contents."""

    def __init__(self):
        self.written = self.synced = b""

    def possible_contents(self):
        """Return what may remain: all data, or synced data plus nothing, half the rest or zeros."""
        length, num_synced = len(self.written), len(self.synced)
        zeros = bytes(length - num_synced)
        return (
            self.written,
            self.synced,
            self.written[: (num_synced + length) // 2],
            self.synced + zeros,
        )


def possible_disks(calls):
    """Yield the number of calls before a power cut, and the files that may be on disk after it."""
    names, synced_names = {}, {}  # files by path: current files, and those certain to be on disk
    for num_calls, (kind, path, *arguments) in enumerate(calls, 1):
        if kind == "create":
            names[path] = File()
        elif kind == "write":
            names[path].written += arguments[0]
        elif kind == "sync":
            names[path].synced = names[path].written
        elif kind == "rename":
            names[arguments[0]] = names.pop(path)
        elif kind == "sync folder":
            elsewhere = {n: f for n, f in synced_names.items() if str(Path(n).parent) != path}
            synced_names = elsewhere | {
                n: f for n, f in names.items() if str(Path(n).parent) == path
            }
        for mapping in (names, synced_names):
            for choice in range(4):
                yield (
                    num_calls,
                    {name: file.possible_contents()[choice] for name, file in mapping.items()},
                )


@pytest.fixture
def uninterrupted():
    return rnn_scratch.train("numpy", output="whole", num_epochs=EPOCHS, **SETTINGS)


def count_checkpoints(calls, num_calls):
    """Return the number of checkpoints that are certain to be on disk after `num_calls` calls."""
    count, renamed = 0, False
    for kind, *rest in calls[:num_calls]:
        if kind == "rename" and rest[1].endswith(checkpoint.FILE):
            renamed = True
        elif kind == "sync folder" and renamed:
            count, renamed = count + 1, False
    return count


def write_files(contents, folder):
    """Empty the folder and write the files that a power cut would leave behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in contents.items():
        (folder / Path(name).name).write_bytes(data)


def assert_consistent(folder, latest):
    """Check that all commands use the `latest` state before and after `resume` repairs files."""
    texts = set()
    for _ in range(2):
        assert rnn_scratch.evaluate(folder).trained == latest.position
        texts.add(rnn_scratch.predict(folder, "the ", temperature=1.0))
        ((_, _, epochs),) = list_runs(folder.parent)
        assert [row.epoch for row in epochs] == list(range(1, latest.epoch + 1))
        with pytest.raises(
            RNNScratchError, match=f"Nothing left to train: .* at epoch {latest.epoch}"
        ):
            rnn_scratch.resume(folder, max(1, latest.epoch))
        assert checkpoint.load(folder).position == latest.position
    assert len(texts) == 1


@pytest.mark.parametrize("fraction", [0.01, 1e9], ids=["few", "many"])
def test_power_cut_after_any_call_is_survived(monkeypatch, tmp_path, uninterrupted, fraction):
    monkeypatch.setattr(run_writer, "CHECKPOINT_TIME_FRACTION", fraction)
    with recorded() as calls:
        rnn_scratch.train("numpy", output="r", num_epochs=EPOCHS, **SETTINGS)
    kinds = {kind for kind, *_ in calls}
    assert kinds == {"create", "write", "sync", "rename", "sync folder"}
    seen, cases, earlier, folder = set(), set(), {}, tmp_path / "runs" / "cut"
    folder.parent.mkdir()
    for num_calls, contents in possible_disks(calls):
        has_started = any(
            kind == "rename" and rest[1].endswith(run_folder.RUN_FILE)
            for kind, *rest in calls[: num_calls - 1]
        )
        if not has_started:
            continue  # guarantees begin with the first session
        case = (count_checkpoints(calls, num_calls), *sorted(contents.items()))
        if case in cases:
            continue  # many power cuts leave the same files
        cases.add(case)
        write_files(contents, folder)
        if not (folder / checkpoint.FILE).exists():
            assert not count_checkpoints(calls, num_calls)
            assert run_folder.read_history(folder) == []
            if "record alone" not in seen:  # the run restarts from its record
                seen.add("record alone")
                ((_, _, epochs),) = list_runs(folder.parent)
                assert epochs == []
                rnn_scratch.resume(folder, EPOCHS)
                assert_same_run(folder, uninterrupted)
            continue
        # The files are complete and consistent, and no older than the last synced checkpoint.
        latest = checkpoint.load(folder)
        at_least = earlier.setdefault(count_checkpoints(calls, num_calls), latest)
        positions = [(state.epoch, len(state.incomplete.losses)) for state in (at_least, latest)]
        assert positions == sorted(positions)
        rows = run_folder.read_history(folder, latest.history_size, latest.history_sha256)
        best = run_folder.find_best_epoch(rows)
        assert latest.best_epoch == (best.epoch if best else 0)
        key = (*positions[-1], len(history_lines(folder)))
        if key in seen:
            continue  # already resumed
        seen.add(key)
        if latest.epoch:
            assert_consistent(folder, latest)
        if latest.epoch < EPOCHS:
            write_files(contents, folder)
            rnn_scratch.resume(folder, EPOCHS)
            assert hidden_files(folder) == []
        assert_same_run(folder, uninterrupted)
    assert "record alone" in seen
    epochs = {epoch for epoch, *_ in seen - {"record alone"}}
    assert {0, EPOCHS} <= epochs
    assert fraction < 1 or epochs == set(range(EPOCHS + 1))
