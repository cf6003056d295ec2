"""The `compare` command: one process per candidate, and the record after a process fails."""

import csv
import re
import shutil
import signal
import statistics
import sys
import textwrap
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import (
    SETTINGS,
    SMALL,
    install_packages,
    is_running,
    options,
    posix,
    run_subprocess,
    start,
    wait_until,
)

from rnn_scratch.compare import tasks
from rnn_scratch.compare.record import read
from rnn_scratch.registry import BUILTIN_BACKENDS
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, minibatches
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

SHORT = options(**SMALL, num_epochs=2, repeats=1)

# Source of a copy of the NumPy backend; the tests replace a few functions of the copy.
BASE = """
from types import SimpleNamespace
from rnn_scratch.backends import numpy
def changed(module, **functions):
    return SimpleNamespace(**{{**vars(module), **functions}})
def make_machine(**functions):
    return changed(numpy.machine, **{{"environment": lambda: {{"{name}": "1.0"}}, **functions}})
scratch, deep, exact, machine = numpy.scratch, numpy.deep, numpy.exact, make_machine()
"""

# Each backend fails or hangs at a different stage.
FAILING = {
    "sleeping": """
        import os, pathlib, time
        def versions():
            pathlib.Path("sleeping").write_text(str(os.getpid()))
            time.sleep(3600)
        machine = make_machine(environment=environment)
    """,
    "incomplete": "import a_module_that_nobody_has",
    "oversized": "machine = make_machine(environment=lambda: bytearray(2**62))",
    "wrong": """
        def clip(grads, theta):
            grads, norm = numpy.scratch.clip(grads, theta)
            return grads, 2 * norm
        scratch = changed(scratch, clip=clip)
    """,
}


def packages(folder, sources):
    """Install backends in `folder`; return environment variables with which Python finds them."""
    modules = {
        name: BASE.format(name=name) + textwrap.dedent(source) for name, source in sources.items()
    }
    return install_packages(folder, modules)


@pytest.fixture
def failing(tmp_path):
    return packages(tmp_path / "site", FAILING)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Compare variants of the NumPy backend; return the output folder and the printed output."""
    folder = tmp_path_factory.mktemp("compared")
    options = ("--models", "scratch,fast", "--seeds", "2", "--repeats", "2", "--output", "out")
    result = run_subprocess(
        "compare", "--backends", "numpy", *SHORT, *options, cwd=folder
    ).assert_exit()
    return folder / "out", result.out


def candidates(folder):
    return {candidate.name: candidate for candidate in read(Path(folder)).candidates}


@pytest.mark.parametrize(
    "selected",
    [{"numpy", "torch"}, pytest.param({*BUILTIN_BACKENDS}, marks=pytest.mark.frameworks)],
    ids=len,
)
def test_comparison_writes_record_and_table(selected, backend_names):
    backend_names = [name for name in backend_names if name in selected]
    options = ("--backends", ",".join(backend_names), "--models", "scratch,concise")
    result = run_subprocess("compare", *options, *SHORT, "--output", "out").assert_exit()
    record = read(Path("out"))
    assert record.outcome == "finished"
    offered = {candidate.name: candidate for candidate in record.offered}
    assert set(candidates("out")) == {
        n + model for n in backend_names for model in ("", " concise")
    }
    assert set(backend_names) <= set(offered)
    for candidate in offered.values():
        ready, (trial,), (timing,) = candidate.ready, candidate.trials, candidate.rounds
        assert (candidate.failures, ready.threads, ready.device) == ([], 1, "cpu")
        assert ready.versions[candidate.backend]
        assert trial.checks_passed > 30
        assert len(trial.epochs) == 2
        assert min(timing.first_minibatch, *timing.minibatches, *timing.products) > 0
        assert timing.memory > 0 or sys.platform != "linux"
    perplexities = [candidate.trials[0].epochs[-1].perplexity for candidate in offered.values()]
    assert max(perplexities) - min(perplexities) < 1e-3 * min(perplexities)
    with Path("out/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == list(offered)
    assert all(float(row["train_low"]) <= float(row["train_median"]) for row in rows)
    for name in offered:
        assert re.search(rf"^ {name} ", result.out, re.MULTILINE)
    assert str(Path.cwd()) not in Path("out/comparison.json").read_text(encoding="utf-8")


def test_seeds_and_rounds_are_recorded(compared):
    folder, out = compared
    for candidate in read(folder).candidates:
        trials, rounds = candidate.trials, candidate.rounds
        assert [len(trial.epochs) for trial in trials] == [2, 2]
        assert [timed.number for timed in rounds] == [0, 1]
        assert trials[0].epochs[-1].perplexity != trials[1].epochs[-1].perplexity
    assert "medians over the random seeds" in out


def test_report_of_a_record_is_self_contained(compared):
    folder, _ = compared
    page = (folder / "report.html").read_text(encoding="utf-8")
    Path("again").mkdir()
    shutil.copy(folder / "comparison.json", "again")
    run_subprocess("report", "again").assert_exit()
    assert Path("again/report.html").read_text(encoding="utf-8") == page
    names = {path.name for path in Path("again").iterdir()}
    assert names == {path.name for path in folder.iterdir()}
    assert names == {"comparison.json", "comparison.csv", "report.html"}
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)\w", page)
    assert "<script" not in page


def test_failure_is_a_row_and_other_candidates_continue(failing):
    names = "incomplete,oversized,wrong,numpy"
    result = run_subprocess(
        "compare", "--backends", names, *SHORT, "--output", "out", env=failing
    ).assert_exit(1)
    reasons = {
        "incomplete": "needs the Python module a_module_that_nobody_has",
        "oversized": "MemoryError",
        "wrong": "the first: clip norm",
    }
    for name, reason in reasons.items():
        candidate = candidates("out")[name]
        assert reason in candidate.failures[0].reason
        assert candidate.rounds == []  # the failed candidate is not timed
        assert reason in result.out
        assert reason in Path("out/report.html").read_text(encoding="utf-8")
    assert candidates("out")["numpy"].failures == []
    assert len(candidates("out")["numpy"].rounds) == 1


def test_limit_multiplies_each_row_of_an_embedding_once():
    def operations(**sizes):
        settings = Settings(**{**SETTINGS, "batch_size": 32, **sizes})
        setup = prepare_run(settings, Runtime("numpy", device="cpu"), books.load("tide-clock"))
        chains = tasks._chains(setup)
        return sum(inputs.shape[0] * W.size for inputs, matrices in chains for W in matrices)

    # One forward and two backward products, with 28 rows (characters), not 32 * 6 (tokens).
    assert operations(embedding=5) - operations() == 3 * 28 * 5 * SETTINGS["num_hiddens"]


def test_clock_stops_after_all_results_are_computed(monkeypatch):
    setup = prepare_run(Settings(**SETTINGS), Runtime("numpy"), books.load("tide-clock"))
    chains, params = tasks._chains(setup), setup.model.params
    batches = [*minibatches.epoch_batches(setup.dataset.train, setup.settings, 1)]
    events = []
    monkeypatch.setattr(
        setup.backend.machine, "synchronize", lambda tensors, device: events.append(tensors)
    )
    clock = SimpleNamespace(perf_counter=lambda: events.append("clock") or 0.0)
    monkeypatch.setattr(tasks, "time", clock)
    # An asynchronous framework must have computed the last update's parameters before the end.
    tasks._seconds(setup, partial(tasks._updates, setup, batches))
    assert (events[0], events[1], events[3:]) == ([], "clock", ["clock"])
    assert {*map(id, params.values())} <= {*map(id, events[2])}
    events.clear()
    tasks._seconds(setup, partial(tasks._multiply, setup, chains))
    assert (events[0], events[1], events[3:]) == ([], "clock", ["clock"])
    assert len(events[2]) == len(chains)


@posix
@pytest.mark.parametrize(
    "name", ["SIGINT", *(pytest.param(n, marks=pytest.mark.faults) for n in ("SIGTERM", "SIGKILL"))]
)
def test_interrupted_comparison_keeps_measurements_and_kills_children(failing, name):
    signum, is_killed = getattr(signal, name), name == "SIGKILL"
    with start(
        "compare", "--backends", "numpy,sleeping", *SHORT, "--output", "out", env=failing
    ) as process:
        path = Path("sleeping")
        wait_until(lambda: path.exists() and path.read_text(), process)
        child = int(path.read_text())
        process.send_signal(signum)
        out, err = process.communicate(timeout=300)
    assert process.returncode == (-signum if is_killed else 128 + signum), (out, err)
    assert "Traceback" not in err
    wait_until(lambda: not is_running(child))
    record = read(Path("out"))
    assert record.outcome == ("running" if is_killed else "interrupted")
    assert len(record.candidates[0].trials[0].epochs) == 2
    if not is_killed:
        assert "Interrupted: these are the measurements so far." in out
    run_subprocess("report", "out").assert_exit()


def test_check_uses_the_compared_settings(tmp_path):
    source = """
        def build(arrays, options):
            if "W_e" in arrays and options.cell == "rnn-relu":
                arrays = {**arrays, "W_e": 2 * arrays["W_e"]}
            return numpy.scratch.build(arrays, options)
        scratch = changed(scratch, build=build)
    """
    env = packages(tmp_path / "more", {"stubborn": source})
    arguments = ("compare", "--backends", "stubborn", *SHORT)
    run_subprocess(*arguments, env=env).assert_exit()
    result = run_subprocess(
        *arguments, "--cell", "rnn-relu", "--embedding", "5", env=env
    ).assert_exit(1)
    assert "the check failed in" in result.out


def test_training_ends_at_the_target():
    sizes = {"num_hiddens": 16, "num_steps": 8, "batch_size": 8, "max_tokens": 2000}
    plan = {"target": 15, "seeds": 2, "num_epochs": 60, "valid_tokens": 400, "output": "out"}
    arguments = ("--backends", "numpy", *SHORT, *options(**sizes, **plan))
    result = run_subprocess("compare", *arguments).assert_exit()
    record = read(Path("out"))
    (candidate,) = record.candidates
    for trial in candidate.trials:
        *earlier, final = [epoch.held_out for epoch in trial.epochs]
        assert final <= 15 < min(earlier)
        assert len(trial.epochs) < 60
    perplexities = [trial.epochs[-1].held_out for trial in candidate.trials]
    assert f"{record.unigram:.2f}" in result.out
    assert 10 < record.unigram < 20
    with Path("out/comparison.csv").open(newline="", encoding="utf-8") as file:
        (columns,) = csv.DictReader(file)
    seconds = [trial.seconds for trial in candidate.trials]
    assert float(columns["target_seconds_median"]) == statistics.median(seconds)
    assert float(columns["held_out_high"]) == max(perplexities)
    assert (columns["reached"], columns["seeds"]) == ("2 of 2", "2")
