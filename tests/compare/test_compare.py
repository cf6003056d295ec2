"""The `compare` command: candidates run in child processes that take turns, fail or are killed."""

import csv
import re
import shutil
import signal
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers import (
    SETTINGS,
    SMALL,
    install_packages,
    is_running,
    options,
    posix,
    require_any,
    run_subprocess,
    start,
    wait_until,
)

from rnn_scratch.compare import tables, tasks, turns
from rnn_scratch.compare.record import Plan, read
from rnn_scratch.registry import BUILTIN_BACKENDS
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

SHORT = options(**SMALL, num_epochs=2, seconds=4)

# Source of a NumPy backend copy in which the tests replace a few functions.
BASE = """
from types import SimpleNamespace
from rnn_scratch.backends import numpy
def changed(module, **functions):
    return SimpleNamespace(**{{**vars(module), **functions}})
def make_machine(**functions):
    return changed(numpy.machine, **{{"versions": lambda: {{"{name}": "1.0"}}, **functions}})
scratch, deep, exact, machine = numpy.scratch, numpy.deep, numpy.exact, make_machine()
"""

# Each backend fails at a different stage.
FAILING = {
    "incomplete": "import a_module_that_nobody_has",
    "oversized": "machine = make_machine(versions=lambda: bytearray(2**62))",
    "wrong": """
        def clip(grads, theta):
            grads, norm = numpy.scratch.clip(grads, theta)
            return grads, 2 * norm
        scratch = changed(scratch, clip=clip)
    """,
}


def packages(folder, sources):
    """Install backends in `folder`; return environment variables that let Python find them."""
    modules = {
        name: BASE.format(name=name) + textwrap.dedent(source) for name, source in sources.items()
    }
    return install_packages(folder, modules)


def candidates(folder):
    return {candidate.name: candidate for candidate in read(Path(folder)).candidates}


@pytest.mark.parametrize(
    "selected",
    [{"numpy", "torch"}, pytest.param({*BUILTIN_BACKENDS}, marks=pytest.mark.frameworks)],
    ids=len,
)
def test_comparison_writes_record_and_report(selected, backend_names):
    backend_names = require_any(backend_names, selected)
    arguments = ("--backends", ",".join(backend_names), "--variants", "scratch,fast,concise")
    result = run_subprocess("compare", *arguments, *SHORT, "--output", "out").assert_exit()
    record = read(Path("out"))
    assert record.outcome == "finished"
    assert set(candidates("out")) == {
        name + model for name in backend_names for model in ("", " fast", " concise")
    }
    assert set(backend_names) <= {candidate.name for candidate in record.supported}
    for candidate in record.supported:
        environment = candidate.environment
        assert (candidate.failure, environment.threads, environment.device) == (None, 1, "cpu")
        if candidate.backend in BUILTIN_BACKENDS:  # elsewhere, `versions` is optional
            assert environment.versions[candidate.backend]
        assert candidate.checks_passed > 30
        assert [epoch.epoch for epoch in candidate.epochs] == [1, 2]
        assert candidate.first_minibatch_seconds > 0
        assert candidate.memory > 0 or sys.platform != "linux"
        assert len(candidate.training_speeds) >= len(candidate.generation_speeds) > 0
    perplexities = [candidate.epochs[-1].perplexity for candidate in record.supported]
    assert max(perplexities) - min(perplexities) < 1e-3 * min(perplexities)
    with Path("out/comparison.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == [c.name for c in record.supported]
    assert all(float(row["training_low"]) <= float(row["training_median"]) for row in rows)
    for candidate in record.supported:
        assert re.search(rf"^ {candidate.name} ", result.out, re.MULTILINE)
    assert str(Path.cwd()) not in Path("out/comparison.json").read_text(encoding="utf-8")
    # The report is self-contained and can be regenerated from the record alone.
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)\w", page)
    Path("again").mkdir()
    shutil.copy("out/comparison.json", "again")
    run_subprocess("report", "again").assert_exit()
    assert Path("again/report.html").read_text(encoding="utf-8") == page


def test_failure_is_a_row_and_other_candidates_continue(tmp_path):
    names = "incomplete,oversized,wrong,numpy"
    env = packages(tmp_path / "site", FAILING)
    arguments = ("--backends", names, *SHORT, "--output", "out")
    result = run_subprocess("compare", *arguments, env=env).assert_exit(1)
    reasons = {
        "incomplete": "failed to load: ModuleNotFoundError: No module named",
        "oversized": "MemoryError",
        "wrong": "the check failed: clip norm",
    }
    for name, reason in reasons.items():
        candidate = candidates("out")[name]
        assert reason in candidate.failure
        assert candidate.training_speeds == []
        assert reason in result.out
        assert reason in Path("out/report.html").read_text(encoding="utf-8")
    assert len(candidates("out")["numpy"].training_speeds) > 0


def test_candidate_that_dies_between_turns_is_a_row(tmp_path):
    text, models = books.load("tide-clock"), [("numpy", "scratch"), ("numpy", "fast")]
    plan = Plan(seconds=8, sweep="num_hiddens", values=[8, 16])
    record = turns.new_record(models, plan, Settings(**SETTINGS, num_epochs=1), text, "")
    states = []

    def update(description, completed):
        if description.startswith("cycle 3,"):
            # The children start in candidate order.
            children = sorted(psutil.Process().children(), key=lambda child: child.create_time())
            states.extend(child.status() for child in children)
            children[1].kill()

    assert turns.run(record, text, tmp_path, print, update) is None
    assert read(tmp_path) == record
    scratch, fast, *others = record.candidates
    assert "killed by SIGKILL" in fast.failure
    assert len(fast.training_speeds) == 3 < len(scratch.training_speeds)
    assert {candidate.failure for candidate in (scratch, *others)} == {None}
    assert len({len(c.training_speeds) for c in (scratch, *others)}) == 1
    assert tables.metrics(record, fast)["vs_scratch"].median > 0
    if hasattr(signal, "SIGSTOP"):
        assert set(states) == {psutil.STATUS_STOPPED}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the available memory")
def test_candidate_that_may_not_fit_into_memory_is_not_started():
    text, models = books.load("tide-clock"), [("numpy", "scratch"), ("numpy", "fast")]
    record = turns.new_record(models, Plan(), Settings(**SETTINGS), text, "")
    record.candidates[0].memory = 2**20  # a small candidate leaves enough memory
    assert turns.find_memory_shortage(record) is None
    record.candidates[0].memory = 2**50
    assert turns.find_memory_shortage(record).startswith("not enough memory (")


@posix
@pytest.mark.parametrize(
    "name", ["SIGINT", *(pytest.param(n, marks=pytest.mark.faults) for n in ("SIGTERM", "SIGKILL"))]
)
def test_interrupted_comparison_keeps_turns_and_kills_children(name):
    signum, is_killed = getattr(signal, name), name == "SIGKILL"
    arguments = (
        "--backends",
        "numpy",
        "--variants",
        "scratch,fast",
        *options(**SMALL, num_epochs=1),
    )
    record_file = Path("out/comparison.json")
    with start("compare", *arguments, "--seconds", 600, "--output", "out") as process:
        wait_until(
            lambda: record_file.exists() and "training_speeds" in record_file.read_text(), process
        )
        children = psutil.Process(process.pid).children()
        process.send_signal(signum)
        out, err = process.communicate(timeout=300)
    assert process.returncode == (-signum if is_killed else 128 + signum), (out, err)
    assert "Traceback" not in err
    assert len(children) == 2
    wait_until(lambda: not any(is_running(child.pid) for child in children))
    record = read(Path("out"))
    assert record.outcome == ("running" if is_killed else "interrupted")
    assert all(candidate.training_speeds for candidate in record.candidates)
    if not is_killed:
        assert "Interrupted: these are the measurements so far." in out
    run_subprocess("report", "out").assert_exit()


def test_check_uses_the_compared_settings(tmp_path):
    source = """
        def build_deep(arrays, options):
            if "W_e" in arrays and options.cell == "rnn-relu":
                arrays = {**arrays, "W_e": 2 * arrays["W_e"]}
            return numpy.deep.build_deep(arrays, options)
        deep = changed(deep, build_deep=build_deep)
    """
    env = packages(tmp_path / "more", {"stubborn": source})
    arguments = ("compare", "--backends", "stubborn", *SHORT, "--seconds", "0")
    run_subprocess(*arguments, env=env).assert_exit()
    result = run_subprocess(
        *arguments, "--cell", "rnn-relu", "--embedding", "5", env=env
    ).assert_exit(1)
    assert "the check failed" in result.out


def test_clock_stops_after_all_results_are_computed(monkeypatch):
    context = prepare_run(Settings(**SETTINGS), Runtime("numpy"), books.load("tide-clock"))
    events, results = [], [object()]
    monkeypatch.setattr(
        context.backend.machine, "synchronize", lambda tensors, device: events.append(tensors)
    )
    clock = SimpleNamespace(perf_counter=lambda: events.append("clock") or 0.0)
    monkeypatch.setattr(tasks, "time", clock)
    tasks._measure_seconds(context, lambda: results)
    assert events == [[], "clock", results, "clock"]
