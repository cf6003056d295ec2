"""Training with several workers: what they compute, and what is left when one of them fails."""

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
    error_of,
    finish,
    has_engine,
    history,
    is_running,
    options,
    parameters,
    require_engine,
    require_tested,
    start,
    wait_for_epochs,
    wait_until,
)

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.exact import digest
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.runs.events import Report
from rnn_scratch.system import locks, signals
from rnn_scratch.workers import network

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no engine runs on Windows")

DEEP = {"num_layers": 2, "dropout": 0.3}
# What the workers of each backend train, and the model with which they go on with another's run.
CASES = {
    "numpy": ({"cell": "gru-after", "optimizer": "adam", "dropout": 0.3}, "fast"),
    "torch": ({"cell": "lstm", "optimizer": "adam", "warmup": 20, **DEEP}, "concise"),
    "tensorflow": ({"sampling": "random", "optimizer": "momentum"}, "fast"),
    "mxnet": ({"embedding": 5, "optimizer": "momentum", "weight_decay": 0.1, **DEEP}, "concise"),
    "jax": ({"cell": "gru", "optimizer": "adam", **DEEP}, "fast"),
}
SOME = {**SMALL, "valid_tokens": 100, "threads": 1}
EXACT = {**SOME, "exact": True}


def command(backend, epochs, **more):
    """The options of a training that is that of EXACT."""
    return ("--exact", *options(**SOME, backend=backend, num_epochs=epochs, **more))


@pytest.fixture
def name(backend_names):
    """The backend whose workers meet the faults."""
    for candidate in ("torch", "numpy"):
        if candidate in backend_names and has_engine(candidate):
            return candidate
    pytest.skip("neither PyTorch nor NumPy with its extra for workers is tested")


def last_session(run="r"):
    return run_folder.read(Path(run)).sessions[-1]


def test_workers_train_what_one_worker_of_numpy_does(backend_name):
    require_engine(backend_name)
    settings = {**EXACT, **CASES[backend_name][0]}
    expected = rnn_scratch.train("numpy", num_epochs=4, run="one", **settings)

    run = rnn_scratch.train(backend_name, workers=2, num_epochs=3, run="two", **settings)
    assert run.folder == Path("two")
    assert [row.epoch for row in run.history] == [1, 2, 3]
    # In exact mode the parameters agree to the last bit, and the losses nearly so.
    for row, one in zip(history("two"), history("one"), strict=False):
        assert abs(row["valid_loss"] - one["valid_loss"]) < 1e-12
        assert abs(row["loss"] - one["loss"]) < 1e-12
        assert (row["epoch"], row["tokens"], row["sample"]) == tuple(
            one[name] for name in ("epoch", "tokens", "sample")
        )
        assert row["backend"] == backend_name
    (session,) = run_folder.read(run.folder).sessions
    assert (session.runtime.workers, session.outcome, session.to_epoch) == (2, "finished", 3)
    assert session.engine == registry.load(backend_name).workers.engine()

    # One worker goes on.
    rnn_scratch.resume("two", 4, workers=1)
    assert digest(parameters("two")) == digest(parameters(expected))
    assert [each.runtime.workers for each in run_folder.read(run.folder).sessions] == [2, 1]


@pytest.mark.team
def test_all_workers_end_by_patience_after_the_same_epoch(name):
    """The first one decides; the others would wait for it for ever, or stop it by an error."""
    settings = {**SMALL, "lr": 3.0, "valid_share": 0.2, "exact": True, "num_epochs": 30}
    one = rnn_scratch.train("numpy", run="one", patience=3, **settings)
    two = rnn_scratch.train(name, run="two", patience=3, workers=2, **settings)
    assert 4 < len(one.history) == len(two.history) < 30
    assert two.best.epoch == one.best.epoch == len(two.history) - 3
    assert digest(parameters("two")) == digest(parameters("one"))
    assert "`patience=3`" in error_of(rnn_scratch.resume, "two", 30)
    longer = rnn_scratch.resume("two", 30, patience=4)
    assert len(longer.history) > len(one.history)
    assert {each.runtime.workers for each in run_folder.read(Path("two")).sessions} == {2}


@pytest.mark.team(by_default=("torch",))
def test_workers_go_on_with_another_model_of_another_backend(backend_name):
    require_engine(backend_name)
    expected = rnn_scratch.train("numpy", num_epochs=4, run="one", **EXACT)
    run = rnn_scratch.train("numpy", num_epochs=2, run="two", **EXACT)
    model = CASES[backend_name][1]
    rnn_scratch.resume(run, 4, backend=backend_name, model=model, workers=2, threads=1)
    assert digest(parameters("two")) == digest(parameters(expected))


@pytest.mark.team
def test_workers_that_are_started_one_by_one(name):
    """As on two machines: one by its options, and one by the variables of a launcher."""
    port = free_port()
    torchrun = {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port - 1}
    by_hand = ("--workers", 2, "--rank", 1, "--coordinator", f"127.0.0.1:{port}", "--wait", 90)

    def both(*arguments):
        first = start("train", *arguments, "--wait", 90, env=torchrun)
        second = start("train", *arguments, *by_hand)
        return [finish(process) for process in (first, second)]

    first, second = both(*command(name, 10, run="r"))
    assert (first.code, first.err, second.code, second.err) == (0, "", 0, "")
    assert second.out.splitlines()[-1] == "training is complete; worker 0 has the run"
    launch = f"rnn_scratch.Launch(2, 1, '127.0.0.1:{port}', 90.0)"
    python = f"import rnn_scratch; print(rnn_scratch.resume('r', 12, workers={launch}))"
    first = start("train", "--resume", "r", "--epochs", 12, "--wait", 90, env=torchrun)
    second = start(program=("-c", python))
    first, second = finish(first), finish(second)
    assert (first.code, first.err, second.out, second.err) == (0, "", "None\n", "")
    expected = rnn_scratch.train("numpy", run="whole", **{**EXACT, "num_epochs": 12})
    assert digest(parameters("r")) == digest(parameters(expected))

    infinite = ("--dtype", "float64", "--cell", "rnn-relu", "--lr", "1e300", "--run", "d")
    for done in both("--backend", name, *options(**SMALL), *infinite):
        assert (done.code, done.err.count("The loss is not finite in epoch 1")) == (1, 1)
    assert last_session("d").outcome == "failed"


def free_port():
    return int(network.free_address("127.0.0.1").rpartition(":")[2])


def launcher(name):
    """The beginning of a command of this launcher, with two workers."""
    if name == "torchrun":
        torchrun = ("-m", "torch.distributed.run", "--master-port", str(free_port()))
        return (sys.executable, *torchrun, "--nproc-per-node", "2", "--no-python", "--")
    return (shutil.which("mpiexec", path=sysconfig.get_path("scripts")), "-n", "2")


@pytest.mark.team
@pytest.mark.parametrize("fault", [None, "a killed worker"])
@pytest.mark.parametrize(("by", "backend"), [("torchrun", "torch"), ("mpiexec", "numpy")])
def test_workers_of_a_launcher(backend_names, by, backend, fault):
    require_tested(backend_names, backend)
    require_engine(backend)
    settings = command(backend, 100_000 if fault else 3, run="r")
    process = start("train", *settings, prefix=launcher(by))
    if fault is None:
        finish(process).ended()
        expected = rnn_scratch.train("numpy", run="whole", **{**EXACT, "num_epochs": 3})
        assert digest(parameters("r")) == digest(parameters(expected))
        return
    wait_for_epochs(process, "r", STRIKE)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(last_session().process, signal.SIGKILL)
    assert finish(process).code != 0  # the launcher ends the others
    wait_until(lambda: not any(is_running(worker.pid) for worker in family))
    assert_undisturbed()


STORY = ("--corpus", "tide-clock")


@pytest.mark.parametrize(
    ("options_of_1", "words"),
    [
        (("--text", "text.txt"), "SHA-256 of the text: "),
        (STORY, "version of the numpy backend: "),  # in the copy
    ],
)
def test_workers_that_would_train_something_else(options_of_1, words, copy):
    Path("text.txt").write_text("another text " * 300)
    with (copy / "backends" / "numpy" / "scratch.py").open("a") as file:
        file.write("# another line\n")
    coordinator = ("--coordinator", network.free_address("127.0.0.1"))
    command = ("train", "--backend", "numpy", "--workers", 2, *coordinator, *options(**SETTINGS))
    first = start(*command, "--rank", 0, *STORY)
    second = start(*command, "--rank", 1, *options_of_1, cwd=copy if options_of_1 == STORY else ".")
    for process in (first, second):
        finish(process).refused("Worker 1 (127.0.0.1) differs from worker 0:", words)


# A training that is long enough for a fault to strike in it, and ends if none does.
LONG = {**EXACT, "num_epochs": 2000}
STRIKE = 5  # the epoch after which it does


class Strike(Report):
    """Does something to the workers once, after an epoch."""

    def __init__(self, action):
        self.action = action

    def epoch(self, epoch):
        if epoch.epoch == STRIKE:
            children = psutil.Process().children()
            self.workers = sorted(children, key=psutil.Process.create_time)[-2:]  # by rank
            self.action(self.workers)

    def assert_ended(self):
        """Check that nothing is left running of the training."""
        assert [worker for worker in self.workers if worker.is_running()] == []


def assert_undisturbed(run="r", workers=1, settings=EXACT):
    """Check that a run can be resumed, and ends as one does that nothing has disturbed."""
    epochs = checkpoint.load(run).epoch + 2
    rnn_scratch.resume(run, epochs, workers=workers)
    whole = rnn_scratch.train("numpy", run="whole", **{**settings, "num_epochs": epochs})
    assert digest(parameters(run)) == digest(parameters(whole))
    assert [row["epoch"] for row in history(run)] == list(range(1, epochs + 1))


def failed(name, action):
    """Train until it fails by what is done to the workers; the error."""
    strike = Strike(action)
    message = error_of(rnn_scratch.train, name, run="r", workers=2, report=strike, **LONG)
    strike.assert_ended()
    session = last_session()
    assert session.outcome in ("failed", "running")  # a worker that was killed recorded nothing
    return message


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.team), 1])
def test_a_killed_worker(name, rank):
    words = failed(name, lambda workers: workers[rank].kill())
    assert words.startswith(f"Worker {rank} has failed: killed by SIGKILL")
    assert_undisturbed(workers=2 - rank)


# A change to `step` that strikes one of the workers, as soon as there is a file.
CHANGE = """
    import contextlib, pathlib
    with contextlib.suppress(FileNotFoundError):
        pathlib.Path("fault").unlink()
        raise ZeroDivisionError("a change")
    """


@pytest.mark.team
def test_an_error_in_one_worker_says_where(name, copy, monkeypatch):
    path = copy / "backends" / name / "scratch.py"
    before, signature, after = path.read_text(encoding="utf-8").partition("def step(")
    docstring, end, body = after.partition('"""\n    ')
    assert body
    path.write_text(before + signature + docstring + end + CHANGE + body, encoding="utf-8")
    monkeypatch.chdir(copy)  # where the workers find it
    words = failed(name, lambda workers: Path("fault").touch())
    assert words.startswith(("Worker 0 has failed: Traceback", "Worker 1 has failed: Traceback"))
    assert "in step\n" in words
    assert words.endswith("ZeroDivisionError: a change\n")
    assert_undisturbed()


@pytest.mark.parametrize("to", ["all", pytest.param("worker 1", marks=pytest.mark.team)])
def test_ctrl_c(name, to):
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
    wait_until(lambda: not any(is_running(worker.pid) for worker in family))
    wait_until(lambda: not locks.is_held(Path("r")))  # by their last threads
    assert_undisturbed()


@pytest.mark.team
def test_a_history_that_cannot_grow_stops_all_workers(name):
    history, kept = Path("r/history.jsonl"), Path("kept")

    def replace(workers):
        history.rename(kept)
        history.mkdir()  # to which nobody can write

    words = failed(name, replace)
    assert words == f"r/history.jsonl could not be written: {os.strerror(errno.EISDIR)}."
    history.rmdir()
    kept.rename(history)
    assert_undisturbed()
