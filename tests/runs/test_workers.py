"""Training with several workers, started by the real `mpiexec`."""

import os
import shutil
import signal
import sys
import sysconfig
from pathlib import Path
from subprocess import DEVNULL

import psutil
import pytest
from helpers import SMALL, finish, history_lines, options, parameters, start, wait_for_epochs

import rnn_scratch
from rnn_scratch.exact import digest
from rnn_scratch.runs import checkpoint, run_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="mpich has no package for Windows")

SOME = {**SMALL, "batch_size": 8, "valid_tokens": 100, "threads": 1, "corpus": "tide-clock"}
CASES = {
    "numpy": {"cell": "gru-after", "optimizer": "adam", "dropout": 0.3},
    "torch": {"cell": "lstm", "optimizer": "adam", "num_layers": 2, "dropout": 0.3},
    "tensorflow": {"sampling": "random", "optimizer": "momentum"},
    "mxnet": {"embedding": 5, "optimizer": "momentum", "weight_decay": 0.1},
    "jax": {"cell": "gru", "optimizer": "adam"},
}


def mpiexec(workers):
    """Return keyword arguments for `start` that launch several workers."""
    pytest.importorskip("mpi4py", reason="to test workers, pip install -e '.[workers]'")
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return {"prefix": (shutil.which("mpiexec", path=path), "-n", str(workers)), "stdin": DEVNULL}


def command(backend, epochs, *arguments, **settings):
    """Return an exact-mode training command with the settings in SOME and `settings`."""
    values = {**SOME, **settings, "backend": backend, "num_epochs": epochs}
    return ("train", "--exact", *options(**values), "--output", "r", *arguments)


def sessions():
    return run_folder.read(Path("r")).sessions


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.frameworks)])
def test_digest_equals_one_workers_digest(backend_name, workers):
    settings = CASES.get(backend_name, {})
    expected = rnn_scratch.train(
        "numpy", output="one", num_epochs=3, exact=True, **{**SOME, **settings}
    )
    result = finish(start(*command(backend_name, 2, **settings), **mpiexec(workers))).assert_exit()
    assert result.out.count("digest ") == 1  # only worker 0 prints
    (session,) = sessions()
    assert (session.runtime.workers, session.outcome, session.to_epoch) == (workers, "finished", 2)
    rnn_scratch.resume("r", 3)  # trains with one worker
    assert digest(parameters("r")) == digest(parameters(expected))


def test_every_worker_returns_the_same_run():
    program = f"import rnn_scratch; SMALL = {SOME!r}\n"
    program += "run = rnn_scratch.train('numpy', num_epochs=2, output='r', report=None, **SMALL)\n"
    program += "run = rnn_scratch.resume(run, 3, report=None)\n"
    program += (
        "from rnn_scratch.exact import digest; print(f'{run!r} {digest(run.arrays)}\\n', end='')"
    )
    result = finish(start(program=("-c", program), **mpiexec(2))).assert_exit()
    line = f" {digest(parameters('r'))}\n"
    first, second = result.out.splitlines(keepends=True)
    assert first == second
    assert first.startswith("<Run r: 3 epochs, ")
    assert first.endswith(line)


def test_early_stopping_ends_all_workers_together():
    settings = {"lr": 3.0, "valid_tokens": 0, "valid_share": 0.2, "patience": 3}
    alone = rnn_scratch.train(
        "numpy", output="one", num_epochs=30, exact=True, **{**SOME, **settings}
    )
    assert 4 < len(alone.history) < 30
    finish(start(*command("numpy", 30, **settings), **mpiexec(2))).assert_exit()
    assert digest(parameters("r")) == digest(parameters(alone))


@pytest.mark.faults(by_default=("numpy",))
def test_killed_worker_ends_the_run_which_resumes(backend_name):
    resume = ("train", "--resume", "r", "--epochs", 10_000)
    for arguments, num_workers, rank in ((command(backend_name, 10_000), 2, 1), (resume, 4, 0)):
        num_epochs = len(history_lines("r")) + 2
        with start(*arguments, **mpiexec(num_workers)) as process:
            wait_for_epochs(process, "r", num_epochs)
            children = psutil.Process(process.pid).children(recursive=True)
            workers = [child for child in children if "rnn_scratch" in child.cmdline()]
            workers.sort(key=lambda child: int(child.environ()["PMI_RANK"]))
            assert len(workers) == num_workers
            workers[rank].send_signal(signal.SIGKILL)
            assert finish(process).code != 0
            assert not psutil.wait_procs(workers, timeout=60)[1], "workers are still running"
    rnn_scratch.resume("r", checkpoint.load("r").epoch + 3)
    assert [session.runtime.workers for session in sessions()] == [2, 4, 1]


# Program in which every worker receives Ctrl-C while it waits for the others.
INTERRUPTED = """
import itertools, signal
from rnn_scratch.cli.main import main
from rnn_scratch.workers import WorkerGroup
gather, calls = WorkerGroup.gather, itertools.count()
WorkerGroup.gather = lambda *args: next(calls) == 6 and signal.raise_signal(2) or gather(*args)
main()
"""


@pytest.mark.faults(by_default=("numpy",))
def test_ctrl_c_stops_all_workers_after_a_checkpoint(backend_name):
    result = finish(start(*command(backend_name, 1_000), program=("-c", INTERRUPTED), **mpiexec(2)))
    assert result.code != 0
    assert "Traceback" not in result.err
    assert "To resume" in result.out
    session = sessions()[-1]
    assert (session.outcome, "SIGINT" in session.reason) == ("interrupted", True)


def test_failing_worker_aborts_the_others_with_its_message(tmp_path):
    Path("r").write_text("not a folder")
    result = finish(start(*command("numpy", 3), **mpiexec(2)))
    assert result.code != 0
    assert result.err.count("Error: ") == 1
    assert "could not be created" in result.err


@pytest.mark.parametrize("changed", ["rnn_scratch/randomness.py", "backends/numpy/scratch.py"])
def test_different_code_is_refused(copy, changed):
    with open(copy / changed, "a", encoding="utf-8") as file:
        file.write("# another version\n")
    # Only worker 1 imports the copy.
    program = "import os, sys; os.environ['PMI_RANK'] == '0' and sys.path.remove(sys.argv[1])"
    program += "; del sys.argv[1]; from rnn_scratch.cli.main import main; main()"
    result = finish(start(copy, *command("numpy", 3), program=("-c", program), **mpiexec(2)))
    assert result.code == 2, result.err
    assert "The workers differ in: source code." in result.err
    assert not Path("r").exists()


def test_workers_must_share_the_rows_equally():
    result = finish(start(*command("numpy", 1), **mpiexec(3)))
    assert "cannot be divided equally among 3 workers" in " ".join(result.err.split())
    assert not Path("r").exists()
