"""Training with several workers: equal results, and runs that survive a failing worker."""

import errno
import os
import shutil
import signal
import sys
import sysconfig
from pathlib import Path

import psutil
import pytest
from helpers import (
    SETTINGS,
    SMALL,
    finish,
    has_engine,
    history,
    is_running,
    options,
    parameters,
    raised_message,
    require_engine,
    start,
    wait_for_epochs,
    wait_until,
)

import rnn_scratch
from rnn_scratch.exact import digest
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.system import signals
from rnn_scratch.training.events import Report

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no engine runs on Windows")

DEEP = {"num_layers": 2, "dropout": 0.3}
# Per backend: settings for its workers, and the variant that resumes another backend's run.
CASES = {
    "numpy": ({"cell": "gru-after", "optimizer": "adam", "dropout": 0.3}, "fast"),
    "torch": ({"cell": "lstm", "optimizer": "adam", "warmup": 20, **DEEP}, "concise"),
    "tensorflow": ({"sampling": "random", "optimizer": "momentum"}, "fast"),
    "mxnet": ({"embedding": 5, "optimizer": "momentum", "weight_decay": 0.1, **DEEP}, "concise"),
    "jax": ({"cell": "gru", "optimizer": "adam", **DEEP}, "fast"),
}
SOME = {**SMALL, "valid_tokens": 100, "threads": 1}
EXACT = {**SOME, "exact": True}


def command(backend, epochs, **settings):
    """Return command-line options for exact mode with the settings in SOME and `settings`."""
    return ("--exact", *options(**SOME, backend=backend, num_epochs=epochs, **settings))


@pytest.fixture
def name(backend_names):
    """Return the name of the backend in whose workers the tests cause failures."""
    for candidate in ("torch", "numpy"):
        if candidate in backend_names and has_engine(candidate):
            return candidate
    pytest.skip("neither PyTorch nor NumPy with its extra for workers is tested")


def last_session(run="r"):
    return run_folder.read(Path(run)).sessions[-1]


def test_workers_equal_one_worker_of_numpy(backend_name):
    require_engine(backend_name)
    settings = {**EXACT, **CASES[backend_name][0]}
    expected = rnn_scratch.train("numpy", num_epochs=4, run="one", **settings)

    run = rnn_scratch.train(backend_name, workers=2, num_epochs=3, run="two", **settings)
    assert run.folder == Path("two")
    assert [row.epoch for row in run.history] == [1, 2, 3]
    # In exact mode, the parameters agree bit for bit, and the losses agree up to rounding.
    for row, expected_row in zip(history("two"), history("one"), strict=False):
        assert abs(row["valid_loss"] - expected_row["valid_loss"]) < 1e-12
        assert abs(row["loss"] - expected_row["loss"]) < 1e-12
        for name in ("epoch", "tokens", "sample"):
            assert row.get(name) == expected_row.get(name)
        assert row["backend"] == backend_name
    (session,) = run_folder.read(run.folder).sessions
    assert (session.runtime.workers, session.outcome, session.to_epoch) == (2, "finished", 3)

    # Resume with one worker.
    rnn_scratch.resume("two", 4, workers=1)
    assert digest(parameters("two")) == digest(parameters(expected))
    assert [session.runtime.workers for session in run_folder.read(run.folder).sessions] == [2, 1]


@pytest.mark.team
def test_patience_ends_all_workers_together(name):
    """Check that worker 0 decides for all workers when to stop early."""
    settings = {**SMALL, "lr": 3.0, "valid_share": 0.2, "exact": True, "num_epochs": 30}
    alone = rnn_scratch.train("numpy", run="one", patience=3, **settings)
    together = rnn_scratch.train(name, run="two", patience=3, workers=2, **settings)
    assert 4 < len(alone.history) == len(together.history) < 30
    assert together.best.epoch == alone.best.epoch == len(together.history) - 3
    assert digest(parameters("two")) == digest(parameters("one"))
    longer = rnn_scratch.resume("two", 30, patience=4)
    assert len(longer.history) > len(alone.history)
    assert {session.runtime.workers for session in run_folder.read(Path("two")).sessions} == {2}


def mpiexec(workers):
    """Return a command prefix that launches workers with mpiexec, as on several machines."""
    require_engine("numpy")
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return (shutil.which("mpiexec", path=path), "-n", str(workers))


@pytest.mark.team(by_default=("torch",))
def test_mpiexec_starts_the_workers_of_each_backend(backend_name):
    prefix = mpiexec(2)
    result = finish(start("train", *command(backend_name, 3, run="r"), prefix=prefix)).assert_exit()
    assert result.out.count("Training is complete; worker 0 saved the run.") == 1
    assert last_session().runtime.workers == 2
    finish(start("train", "--resume", "r", "--epochs", 5, prefix=prefix)).assert_exit()
    expected = rnn_scratch.train("numpy", run="whole", **{**EXACT, "num_epochs": 5})
    assert digest(parameters("r")) == digest(parameters(expected))


@pytest.mark.team
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
def test_workers_of_mpiexec_end_together(name, stop):
    process = start("train", *command(name, 100_000, run="r"), prefix=mpiexec(2))
    wait_for_epochs(process, "r", STRIKE)
    family = psutil.Process(process.pid).children(recursive=True)
    if stop == signal.SIGINT:
        process.send_signal(stop)  # mpiexec forwards the signal
    else:
        os.kill(last_session().process, stop)
    assert finish(process).code != 0
    wait_until(lambda: not any(is_running(worker.pid) for worker in family))
    if stop == signal.SIGINT:
        assert last_session().outcome == "interrupted"
        assert len(history("r")) == checkpoint.load("r").epoch
    assert_undisturbed()


STORY = ("--corpus", "tide-clock")


@pytest.mark.parametrize(
    ("worker_1", "message"),
    [
        (("--text", "text.txt"), "SHA-256 of the text: "),
        ((*STORY, "--lr", "0.5"), "lr: 0.5 in worker 1, "),
        (STORY, "version of the numpy backend: "),  # worker 1 runs in the copy
    ],
)
def test_differences_between_workers_are_refused(worker_1, message, copy):
    Path("text.txt").write_text("another text " * 300)
    with (copy / "backends" / "numpy" / "scratch.py").open("a") as file:
        file.write("# another line\n")
    train = (sys.executable, "-m", "rnn_scratch", "train", "--backend", "numpy", "--run", "r")
    train = (*train, *map(str, options(**SETTINGS)))
    folder = copy if worker_1 == STORY else Path.cwd()
    second = ("-n", "1", "-wdir", str(folder), *train, *worker_1)
    result = finish(start(*STORY, ":", *second, program=train[1:], prefix=mpiexec(1)))
    assert result.code != 0
    assert "Worker 1 differs from worker 0:" in result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not Path("r").exists()


# Settings for a training run that is long enough for a fault, but ends even if no fault occurs.
LONG = {**EXACT, "num_epochs": 2000}
STRIKE = 5  # epoch of the fault


class Strike(Report):
    """A report that performs an action on the workers after epoch STRIKE."""

    def __init__(self, action):
        self.action = action

    def epoch(self, epoch):
        if epoch.epoch == STRIKE:
            children = psutil.Process().children()
            self.workers = sorted(children, key=psutil.Process.create_time)[-2:]  # rank order
            self.action(self.workers)

    def assert_ended(self):
        """Check that all workers have ended."""
        assert [worker for worker in self.workers if worker.is_running()] == []


def assert_undisturbed(workers=1):
    """Resume the run `r`; check that it ends with the parameters of an uninterrupted run."""
    epochs = checkpoint.load("r").epoch + 2
    rnn_scratch.resume("r", epochs, workers=workers)
    uninterrupted = rnn_scratch.train("numpy", num_epochs=epochs, run="whole", **EXACT)
    assert digest(parameters("r")) == digest(parameters(uninterrupted))
    assert [row["epoch"] for row in history("r")] == list(range(1, epochs + 1))


def failed(name, action):
    """Train with an action that makes the workers fail; return the error message."""
    strike = Strike(action)
    message = raised_message(rnn_scratch.train, name, run="r", workers=2, report=strike, **LONG)
    strike.assert_ended()
    assert last_session().outcome in ("failed", "running")  # a killed worker records nothing
    return message


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.team), 1])
def test_killed_worker_is_named(name, rank):
    message = failed(name, lambda workers: workers[rank].kill())
    assert message.startswith(f"Worker {rank} failed: killed by SIGKILL")
    assert_undisturbed(workers=2 - rank)


# Code inserted into `step`, which raises an error in one worker once the file "fault" exists.
CHANGE = """
    import contextlib, pathlib
    with contextlib.suppress(FileNotFoundError):
        pathlib.Path("fault").unlink()
        raise ZeroDivisionError("a change")
    """


@pytest.mark.team
def test_error_in_a_worker_has_its_traceback(name, copy, monkeypatch):
    path = copy / "backends" / name / "scratch.py"
    head, signature, tail = path.read_text(encoding="utf-8").partition("def step(")
    docstring, end, body = tail.partition('"""\n    ')
    assert body
    path.write_text(head + signature + docstring + end + CHANGE + body, encoding="utf-8")
    monkeypatch.chdir(copy)  # the workers import from the current directory
    message = failed(name, lambda workers: Path("fault").touch())
    assert message.startswith(("Worker 0 failed: Traceback", "Worker 1 failed: Traceback"))
    assert "in step\n" in message
    assert message.endswith("ZeroDivisionError: a change\n")
    assert_undisturbed()


@pytest.mark.parametrize("to", ["all", pytest.param("worker 1", marks=pytest.mark.team)])
def test_ctrl_c_ends_all_workers(name, to):
    def interrupt(workers):
        process = psutil.Process() if to == "all" else workers[1]
        process.send_signal(signal.SIGINT)

    strike = Strike(interrupt)
    with pytest.raises(signals.Stopped, match="SIGINT"):
        rnn_scratch.train(name, run="r", workers=2, report=strike, **LONG)
    strike.assert_ended()
    assert last_session().outcome == "interrupted"
    assert_undisturbed()


@pytest.mark.team
def test_workers_end_when_the_command_is_killed(name):
    process = start("train", *command(name, 2000, run="r", workers=2))
    wait_for_epochs(process, "r", STRIKE)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()  # Its threads hold the lock until the last thread ends.
    wait_until(lambda: not any(is_running(worker.pid) for worker in family))
    assert_undisturbed()


@pytest.mark.team
def test_failed_write_stops_all_workers(name):
    history, moved_history = Path("r/history.jsonl"), Path("kept")

    def replace(workers):
        history.rename(moved_history)
        history.mkdir()  # appending to a folder fails

    message = failed(name, replace)
    assert message == f"r/history.jsonl could not be written: {os.strerror(errno.EISDIR)}."
    history.rmdir()
    moved_history.rename(history)
    assert_undisturbed()
