"""Files and folders of runs that are exchanged, renamed, linked and deleted while sessions work.

Whatever happens, a session ends with its result or an error, and writes to no run but its own; what
is left of a run goes on exactly, or is refused.
"""

import contextlib
import random
import shutil
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from helpers import ENDLESS, SMALL, assert_same, figures, parameters

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import catalog, checkpoint, curve, run_folder, sessions
from rnn_scratch.runs.events import Report
from rnn_scratch.system import locks

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no folder that is in use"),
    pytest.mark.faults,
]

LAST = 20  # epochs
SETTINGS = {**SMALL, "max_tokens": 200, "valid_share": 0.2}
KINDS = {"first": {}, "other": {"cell": "gru"}, "second": {"seed": 1}}
FILES = (run_folder.RUN_FILE, run_folder.HISTORY, checkpoint.FILE, checkpoint.BEST)


class Work(Report):
    """A session in a thread of its own: how far it has come, and how it has ended."""

    def __init__(self, call, *arguments, **more):
        self.last, self.error = 0, None
        self.call = partial(call, *arguments, report=self, **more)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def epoch(self, epoch):
        self.last = epoch.epoch

    def run(self):
        try:
            self.call()
        except BaseException as error:  # which the test is to see
            self.error = error

    def wait_for(self, epoch):
        while self.thread.is_alive() and self.last < epoch:
            time.sleep(0.0005)


def train(kind, folder):
    more = {"num_epochs": LAST, **SETTINGS, **KINDS[kind]}
    return Work(rnn_scratch.train, "numpy", run=folder, **more)


def resume(folder):
    return Work(rnn_scratch.resume, folder, LAST)


# What is done to the run in the folder r, while it is trained; each yields further sessions.


def move(chance):
    Path("r").rename("moved")
    if chance.random() < 0.7:
        yield train("second", "r")


def delete(chance):
    while Path("r").exists():
        shutil.rmtree("r", ignore_errors=True)
    yield train("second", "r")


def move_and_return(chance):
    Path("r").rename("moved")
    time.sleep(chance.choice((0, 0.003)))
    Path("moved").rename("r")
    yield resume("r")


def copy(chance):
    Path("r").rename("moved")
    with contextlib.suppress(shutil.Error):  # of files that are temporary
        shutil.copytree("moved", "r")
    yield resume("r")


def link(chance):
    Path("r").rename("moved")
    Path("r").symlink_to("moved")
    yield resume("r")


def unlock(chance):
    for _ in range(3):
        Path("r", locks.LOCK).unlink(missing_ok=True)
        yield resume("r")


def exchange_runs(chance):
    Path("r").rename("moved")
    Path("other").rename("r")
    Path("moved").rename("other")
    yield resume(chance.choice(("r", "other")))


def exchange_files(chance):
    for name in chance.sample(FILES, chance.choice((1, 1, 2, 4))):
        with contextlib.suppress(FileNotFoundError):
            Path("r", name).rename("moved")
            Path("other", name).rename(Path("r", name))
            Path("moved").rename(Path("other", name))
    yield from ()


def copy_file(chance):
    name = chance.choice(FILES)
    shutil.copy(Path("other", name), "copied")
    Path("copied").rename(Path("r", name))
    yield from ()


def delete_file(chance):
    Path("r", chance.choice(FILES)).unlink(missing_ok=True)
    yield resume("r")


def put_something_else(chance):
    path = Path("r", chance.choice(FILES))
    Path("r", path.name).unlink(missing_ok=True)
    kinds = [*ENDLESS.values(), Path.mkdir, lambda path: path.symlink_to("../precious")]
    chance.choice(kinds)(path)
    yield from ()


# After these, what is left of each run goes on.
OF_FOLDERS = (move, delete, move_and_return, link, unlock, exchange_runs)
OF_FILES = (copy, exchange_files, copy_file, delete_file, put_something_else)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of each kind that nobody has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, more in KINDS.items():
        run = folder / kind
        rnn_scratch.train("numpy", run=run, num_epochs=LAST + 2, **SETTINGS, **more)
    rnn_scratch.train("numpy", run=folder / "begun", num_epochs=5, **SETTINGS, **KINDS["other"])
    return folder


def kind_of(folder):
    settings = run_folder.read(folder).settings
    return next(
        kind
        for kind, more in KINDS.items()
        if (settings.cell, settings.seed) == (more.get("cell", "rnn"), more.get("seed", 0))
    )


def verify(whole, done, started):
    """What is left of the runs."""
    assert Path("precious").read_text() == "precious"
    catalog.listing(Path())
    outcomes = Counter()
    for folder in sorted(path for path in Path().iterdir() if path.is_dir()):
        if folder.is_symlink():
            continue
        try:
            kind, saved = kind_of(folder), checkpoint.load(folder).epoch
            rnn_scratch.resume(folder, LAST + 2)
        except RNNScratchError:
            if done in OF_FOLDERS:
                raise
            outcomes["refused"] += 1
            continue
        outcomes["resumed"] += 1
        assert figures(folder) == figures(whole / kind), folder
        assert_same(parameters(folder), parameters(whole / kind))
        with contextlib.suppress(RNNScratchError):
            best = (checkpoint.load(path / checkpoint.BEST) for path in (folder, whole / kind))
            assert_same(*(each.arrays for each in best))
        if kind == "first" and done in OF_FOLDERS and sessions.SHARE > 1:
            assert saved >= started.last, "an epoch that was reported is not in its folder"
    return outcomes


@pytest.mark.timeout(3600)
def test_nothing_that_happens_to_folders_and_files_mixes_runs(monkeypatch, whole, trials, tmp_path):
    monkeypatch.setattr(curve, "picture", lambda histories: b"")  # most of the time goes into it
    seed, outcomes = random.randrange(10**6), Counter()
    for number in range(trials or 40):
        chance = random.Random(f"{seed} {number}")
        monkeypatch.setattr(sessions, "SHARE", chance.choice((0.01, 1e9)))
        done = chance.choice(OF_FOLDERS + OF_FILES)
        place = tmp_path / str(number)
        shutil.copytree(whole / "begun", place / "other")
        monkeypatch.chdir(place)
        Path("precious").write_text("precious")
        first = train("first", "r")
        first.wait_for(chance.randrange(1, LAST))
        works = [first]
        with contextlib.suppress(FileNotFoundError):  # a temporary file, or a folder not yet there
            works += done(chance)
        try:
            for work in works:
                work.thread.join(60)
                assert not work.thread.is_alive(), "a session hangs"
                assert work.error is None or isinstance(work.error, RNNScratchError), work.error
                outcomes["ended" if work.error is None else "stopped"] += 1
            outcomes += verify(whole, done, first)
        except BaseException as error:
            error.add_note(f"seed {seed}, trial {number}: {done.__name__}")
            raise
        shutil.rmtree(place)
    assert set(outcomes) == {"ended", "stopped", "resumed", "refused"}, outcomes
    print(number + 1, "trials, seed", seed, dict(outcomes))
