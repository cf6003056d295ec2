"""The campaign of faults: each trial does one, drawn from a seed, to a real training.

What is left is read by every command, and resumed. `--trials` and `--seeds` choose the trials, and
`--record` writes their counts to a file.
"""

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from helpers import (
    SMALL,
    assert_same_run,
    hidden_files,
    options,
    put_together,
    safetensors_parts,
    start,
    wait_until,
)
from measure import measuring
from mutations import mutations

import rnn_scratch
from rnn_scratch.play import page
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.run_folder import HISTORY, RUN_FILE
from rnn_scratch.system import signals

resource = pytest.importorskip("resource")
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(sys.platform != "linux", reason="limits and file names are Linux's"),
]

EPOCHS = 60  # of a few milliseconds
SETTINGS = {**SMALL, "lr": 3.0, "valid_share": 0.2, "num_epochs": EPOCHS}
# Control characters, and bytes that are no UTF-8, in the name of the run's folder.
NAMES = ("r", "two words", "猫", "\x1b]0;title\x07", "\udcff")
# Python's last act is to restore the system's own way of handling signals.
STOPPED = [code for number in signals.SIGNALS for code in (128 + number, -number)]

# A training whose system calls fail from a number of them on.
PROGRAM = """
import itertools, json, os, signal, sys
from rnn_scratch.cli.__main__ import start
from rnn_scratch.runs import sessions
from rnn_scratch.system import signals
how, numbers = json.loads(sys.argv.pop(1)), itertools.count()
sessions.SHARE = how["share"]

def faulty(call, *arguments, **more):
    if how["first"] <= next(numbers) <= how["last"]:
        raise OSError(how["errno"], os.strerror(how["errno"]))
    return call(*arguments, **more)

for name in how.get("calls", ()):
    setattr(os, name, lambda *args, call=getattr(os, name), **more: faulty(call, *args, **more))
install = signals.install
signals.install = lambda: (install(), signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS))
start()
"""


def block():
    """Block signals until the command has installed its handlers: before, they are Python's."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)


def train(chance, run, how=None, **process):
    """Start the training, new or resumed; half of them save at every opportunity."""
    how = json.dumps({"share": chance.choice((0.01, 1e9)), **(how or {})})
    new = options(backend="numpy", threads=1, run=run, **SETTINGS)
    begun = ("--resume", run, "--epochs", EPOCHS) if Path(run, RUN_FILE).exists() else new
    process = {"preexec_fn": block, **process}
    return start(how, "train", *begun, program=("-c", PROGRAM), **process)


def ended(process, *codes):
    """Wait for the end of a command, which has one of these exit codes and no traceback."""
    with process:  # which an error kills
        out, err = process.communicate(timeout=120)
    assert process.returncode in codes, (process.returncode, out, err)
    for text in (out or "", err or ""):
        assert "Traceback" not in text, text
        assert "is damaged" not in text, text
        assert len(text) < 10**5
    return process.returncode


def kills(chance, run, most=1):
    """Signals at random moments, to one or several sessions in one folder."""
    for _ in range(2):
        processes = [train(chance, run) for _ in range(chance.randint(1, most))]
        time.sleep(chance.uniform(0, 1.5))
        for process in processes[::2]:
            process.send_signal(chance.choice((signal.SIGKILL, *signals.SIGNALS)))
        for process in processes:
            ended(process, 0, 2, -signal.SIGKILL, *STOPPED)


def several(chance, run):
    """Several sessions at once, some of which are killed."""
    kills(chance, run, most=4)


def limits(chance, run):
    """Less room for files or memory, or fewer descriptors, from a random moment on."""
    process = train(chance, run)
    wait_until(lambda: run.exists() or process.poll() is not None)
    time.sleep(chance.uniform(0, 0.5))
    kind, most = chance.choice(
        [(resource.RLIMIT_FSIZE, 30_000), (resource.RLIMIT_AS, 2**28), (resource.RLIMIT_NOFILE, 30)]
    )
    with contextlib.suppress(ProcessLookupError):
        hard = resource.prlimit(process.pid, kind)[1]
        resource.prlimit(process.pid, kind, (chance.randrange(most), hard))
    ended(process, 0, 2)


def errors(chance, run):
    """Errors of system calls: of one, of some, or of all from then on."""
    calls = ["open", "write", "fsync", "replace", "ftruncate", "mkdir", "fstat", "lstat", "listdir"]
    first = int(10 ** chance.uniform(0, 3))
    last = first + chance.choice((0, 0, 3, 10**9))
    codes = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES, errno.EROFS, errno.ESTALE)
    for _ in range(2):
        names = chance.sample(calls, chance.randint(1, len(calls)))
        how = {"calls": names, "first": first, "last": last, "errno": chance.choice(codes)}
        ended(train(chance, run, how=how), 0, 2)


def environments(chance, run):
    """Variables, streams and folders that are odd or missing."""
    odd = "TZ=UTC+24 TZ=nowhere TZ= LANG=C LC_ALL=POSIX LC_ALL=xx_XX.latin1 TMPDIR=/dev/null HOME= "
    odd += (
        "HOME=/dev/null COLUMNS=-1 COLUMNS=many TERM= MPLBACKEND=nonsense MPLCONFIGDIR=/dev/null "
    )
    odd += "SOURCE_DATE_EPOCH=never OMP_NUM_THREADS=many PYTHONIOENCODING=utf-16 PYTHONUTF8=0"
    env = dict(each.split("=") for each in chance.sample(odd.split(), chance.randint(0, 6)))
    closed, full = chance.choice(((), (0,), (1,), (2,), (0, 1, 2))), chance.random() < 0.2
    with open("/dev/full", "w") as out:
        how = {"env": env, "preexec_fn": lambda: [os.close(each) for each in closed]}
        ended(train(chance, run, **how, **({"stdout": out} if full else {})), 0, 1, 2)


def crafted(chance, run):
    """A change of the record, the history or the metadata, with the digests that belong to it."""
    ended(train(chance, run), 0)
    header, numbers = safetensors_parts(run / checkpoint.FILE)
    parts = [(run / RUN_FILE).read_text(), header["__metadata__"]["checkpoint"]]
    parts += (run / HISTORY).read_text().splitlines()
    which = chance.choice((0, 1, chance.randrange(2, len(parts))))
    parts[which] = next(mutations(json.loads(parts[which]), chance.random(), 1))
    record, about, *rows = parts
    (run / RUN_FILE).write_text(record)
    (run / HISTORY).write_text("".join(row + "\n" for row in rows))
    if which > 1:
        content = (run / HISTORY).read_bytes()
        mark = len(content), hashlib.sha256(content).hexdigest()
        about = json.dumps({**json.loads(about), "history": mark})
    header["__metadata__"]["checkpoint"] = about
    put_together(run / checkpoint.FILE, header, numbers)


FAULTS = (kills, limits, errors, environments, several, crafted)
PLAY = ("--no-browser", "--output", "page.html")


def assert_refused_or_shown(terminal, run):
    resume = ("train", "--resume", run, "--epochs", EPOCHS + 1)
    reading = (("runs",), ("predict", run, "--best"), ("evaluate", run), ("play", run, *PLAY))
    for command in (*reading, resume):
        done = terminal(*command)
        assert done.code in (0, 1, 2), done  # 1: the training that is described diverges
        assert len(done.out) < 10_000


def assert_one_truth(terminal, run, whole):
    """Check that commands agree on the latest state, and that it leads to that of the whole run."""
    saved = checkpoint.load(run)
    assert f"model      {saved.position}\n" in terminal("evaluate", run).ended().out
    assert f" {saved.epoch}/{EPOCHS} " in terminal("runs").ended().out
    terminal("play", run, *PLAY).ended()
    network = {saved.settings.cell: page.network(saved)}
    assert page.script(network) in Path("page.html").read_text(encoding="utf-8")
    terminal("predict", run).ended()
    resume = ("train", "--resume", run, "--epochs", EPOCHS)
    terminal(*resume).ended(2 if saved.epoch == EPOCHS else 0)
    assert_same_run(run, whole)
    assert hidden_files(run) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return rnn_scratch.train("numpy", threads=1, run=folder, **SETTINGS).folder


def count(request, name, trials, failures):
    """Write the counts of one kind of fault into the record, beside the others."""
    path, seeds = (request.config.getoption(each) for each in ("--record", "--seeds"))
    if path:
        path = request.config.invocation_params.dir / path
        others = json.loads(path.read_bytes())["faults"] if path.exists() else {}
        faults = {**others, name: {"trials": trials, "failures": len(failures)}}
        measuring.write(path, {"seeds": seeds, "faults": faults})


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_campaign(request, tmp_path, monkeypatch, on_terminal, whole, trials, fault):
    seeds = (request.config.getoption("--seeds") or str(random.randrange(10**6))).split(",")
    failures = []
    for number in range(trials or 10):
        seed = f"{fault.__name__} {number} of {seeds[number % len(seeds)]}"
        chance, folder = random.Random(seed), tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        run = Path("runs", chance.choice(NAMES))
        try:
            fault(chance, run)
            assert set(os.listdir()) <= {"runs"}
            if fault is crafted:
                assert_refused_or_shown(on_terminal, run)
            elif Path(run, RUN_FILE).exists():
                assert_one_truth(on_terminal, run, whole)
            else:  # only a kill leaves a folder behind in which no session has begun
                assert fault in (kills, several) or not run.exists(), os.listdir(run)
        except Exception as error:
            failures.append(f"{seed}: {error!r}")
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
    count(request, fault.__name__, number + 1, failures)
    assert not failures, "\n".join(failures)
