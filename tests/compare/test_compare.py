"""`compare`: the same training in several processes, and the record when one of them fails."""

import csv
import re
import shutil
import signal
import statistics
import sys
import textwrap
from pathlib import Path

import pytest
from helpers import (
    SETTINGS,
    SMALL,
    is_running,
    options,
    other_packages,
    posix,
    start,
    there,
    wait_until,
)

from rnn_scratch.compare import pictures, summary, tasks
from rnn_scratch.compare.record import Candidate, read
from rnn_scratch.registry import OURS
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings
from rnn_scratch.text import books

SHORT = options(**SMALL, num_epochs=2, repeats=1)

# Backends that are NumPy's but for a few functions. `after_check` is called between a child's
# check and its work.
BASE = """
from types import SimpleNamespace
from rnn_scratch.backends import numpy
def changed(module, **functions):
    return SimpleNamespace(**{{**vars(module), **functions}})
def make_machine(after_check=None, **functions):
    def set_tf32(allowed):
        if after_check is not None:
            after_check()
    named = {{"environment": lambda: {{"{name}": "1.0"}}, "set_tf32": set_tf32, **functions}}
    return changed(numpy.machine, **named)
scratch, deep, machine = numpy.scratch, numpy.deep, make_machine()
"""

# Each of these fails at another point.
FAILING = {
    "sleeping": """
        import os, pathlib, time
        def sleep():
            pathlib.Path("sleeping").write_text(str(os.getpid()))
            time.sleep(3600)
        machine = make_machine(sleep)
    """,
    "incomplete": "import a_module_that_nobody_has",
    "oversized": "machine = make_machine(lambda: bytearray(2**62))",
    "wrong": """
        def clip(grads, theta):
            grads, norm = numpy.scratch.clip(grads, theta)
            return grads, 2 * norm
        scratch = changed(scratch, clip=clip)
    """,
}


def packages(folder, sources):
    """Install these backends; returns the environment in which they are found."""
    whole = {name: BASE.format(name=name) + textwrap.dedent(each) for name, each in sources.items()}
    return other_packages(folder, whole)


@pytest.fixture
def failing(tmp_path):
    return packages(tmp_path / "site", FAILING)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison of NumPy's variants, and what was printed about it."""
    folder = tmp_path_factory.mktemp("compared")
    more = ("--models", "scratch,fast", "--seeds", "2", "--repeats", "2", "--output", "out")
    done = there("compare", "--backends", "numpy", *SHORT, *more, cwd=folder).ended()
    return folder / "out", done.out


def candidates(folder):
    return {candidate.name: candidate for candidate in read(Path(folder)).candidates}


@pytest.mark.parametrize(
    "chosen", [{"numpy", "torch"}, pytest.param({*OURS}, marks=pytest.mark.frameworks)], ids=len
)
def test_what_a_comparison_writes(chosen, backend_names):
    backend_names = [name for name in backend_names if name in chosen]
    chosen = ("--backends", ",".join(backend_names), "--models", "scratch,concise")
    done = there("compare", *chosen, *SHORT, "--output", "out").ended()
    record = read(Path("out"))
    assert record.outcome == "finished"
    measured = {candidate.name: candidate for candidate in record.offered}
    assert set(candidates("out")) == {n + more for n in backend_names for more in ("", " concise")}
    assert set(backend_names) <= set(measured)
    starts = {
        (trial.seed, trial.parameters, trial.minibatches_seen)
        for candidate in measured.values()
        for trial in candidate.trials
    }
    assert len(starts) == 1  # every process starts with the same numbers
    for candidate in measured.values():
        ready, (trial,), (times,) = candidate.ready, candidate.trials, candidate.rounds
        assert (candidate.failures, ready.threads, ready.device) == ([], 1, "cpu")
        assert ready.versions[candidate.backend]
        assert trial.comparisons > 30
        assert len(trial.epochs) == 2
        assert times.parameters == trial.parameters
        assert min(times.first, *times.minibatches, *times.products) > 0
        assert times.memory > 0
        # In turns with the framework's own layer.
        has_layer = candidate.model != "concise" and f"{candidate.backend} concise" in measured
        assert len(times.own_layer) >= 3 if has_layer else not times.own_layer
    ends = [candidate.trials[0].epochs[-1].perplexity for candidate in measured.values()]
    assert max(ends) - min(ends) < 1e-3 * min(ends)
    with Path("out/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == list(measured)
    assert all(float(row["train_low"]) <= float(row["train_median"]) for row in rows)
    for name in measured:
        assert re.search(rf"^ {name} ", done.out, re.MULTILINE)
    assert str(Path.cwd()) not in Path("out/comparison.json").read_text(encoding="utf-8")


def test_several_seeds_and_rounds(compared):
    folder, out = compared
    for candidate in read(folder).candidates:
        trials, rounds = candidate.trials, candidate.rounds
        assert [len(trial.epochs) for trial in trials] == [2, 2]
        assert trials[0].parameters != trials[1].parameters
        assert [timed.number for timed in rounds] == [0, 1]
        assert {timed.parameters for timed in rounds} == {trials[0].parameters}
    assert "medians over the random seeds" in out


def test_the_report_is_made_from_the_record_alone_and_is_self_contained(compared):
    folder, _ = compared
    page = (folder / "report.html").read_text(encoding="utf-8")
    Path("again").mkdir()
    shutil.copy(folder / "comparison.json", "again")
    there("report", "again").ended()
    assert Path("again/report.html").read_text(encoding="utf-8") == page
    assert {path.name for path in Path("again").iterdir()} == {
        path.name for path in folder.iterdir()
    } - {".lock"}
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)\w", page)
    assert "<script" not in page


def test_each_failure_is_a_row_with_its_reason_and_the_others_continue(failing):
    names = "incomplete,oversized,wrong,numpy"
    done = there("compare", "--backends", names, *SHORT, "--output", "out", env=failing).ended(1)
    reasons = {
        "incomplete": "needs the Python module a_module_that_nobody_has",
        "oversized": "MemoryError",
        "wrong": "the first: clip norm",
    }
    for name, reason in reasons.items():
        candidate = candidates("out")[name]
        assert reason in candidate.failures[0].reason
        assert candidate.rounds == []  # it was not timed
        assert reason in done.out
        assert reason in Path("out/report.html").read_text(encoding="utf-8")
    assert candidates("out")["numpy"].failures == []
    assert len(candidates("out")["numpy"].rounds) == 1


def test_a_process_that_does_not_answer_in_time_is_a_failure(failing):
    done = there("compare", "--backends", "sleeping", *SHORT, "--timeout", 3, env=failing).ended(1)
    assert "no answer within 3 s" in done.out


def test_the_limit_multiplies_each_row_of_an_embedding_once():
    def operations(**more):
        settings = Settings(**{**SETTINGS, "batch_size": 32, **more})
        setup = set_up(settings, Runtime("numpy", device="cpu"), books.load("tide-clock"))
        return tasks._operations(tasks._chains(setup))

    # Forward, backward and the gradient, for 28 characters and not for 32 * 6 tokens.
    assert operations(embedding=5) - operations() == 3 * 2 * 28 * 5 * SETTINGS["num_hiddens"]


# What an asynchronous framework does: it returns from `multiply` before it has computed anything.
ASYNCHRONOUS = """
    import pathlib, time
    import numpy as np
    events = pathlib.Path("events")
    def note(event):
        with events.open("a") as file:
            file.write(event + " ")

    class Product:
        # A product that is computed when somebody waits for it or reads it.
        def __init__(self, *factors):
            self.factors, self.value = factors, None
        def compute(self):
            if self.value is None:
                self.value = numpy.machine.multiply(*self.factors)
                note("computed")
        def __array__(self, *args, **kwargs):
            self.compute()
            return self.value

    updated = []
    def multiply(h, matrices):
        note("begun")
        return Product(h, matrices)
    def synchronize(tensors, device):
        for tensor in tensors:
            if isinstance(tensor, Product):
                tensor.compute()
        if updated and all(any(one is tensor for tensor in tensors) for one in updated):
            note("trained")
            updated.clear()
    def train_epoch(model, minibatches, how, carry, state=None):
        losses, state = numpy.scratch.train_epoch(model, minibatches, how, carry, state)
        updated[:] = [*state, *model.params.values()]
        note("training")
        return losses, state
    def array(tensor):
        return np.asarray(tensor)
    def watch_the_clock():
        events.write_text("")  # without those of the check
        read = time.perf_counter
        def perf_counter():
            note("clock")
            return read()
        time.perf_counter = perf_counter
    machine = make_machine(
        watch_the_clock, multiply=multiply, synchronize=synchronize, array=array
    )
    scratch = changed(scratch, train_epoch=train_epoch)
"""


def test_a_clock_stops_when_its_results_are_computed(tmp_path):
    env = packages(tmp_path / "more", {"asynchronous": ASYNCHRONOUS})
    there("compare", "--backends", "asynchronous", *SHORT, env=env).ended()
    # Of the last process, which took the times.
    events = Path("events").read_text()
    # Of the cell, of the output layer, and of the gradients of the weights of each.
    turns = events.count("clock " + 4 * "begun " + 4 * "computed " + "clock")
    assert turns >= 5
    # And in each turn, the large product.
    assert events.count("clock begun computed clock") == turns
    assert (events.count("begun"), events.count("computed")) == (5 * turns, 5 * turns)
    epochs = events.count("clock training trained clock")
    assert epochs >= 5
    assert events.count("training") == epochs


@posix
@pytest.mark.parametrize(
    "name", ["SIGINT", *(pytest.param(n, marks=pytest.mark.faults) for n in ("SIGTERM", "SIGKILL"))]
)
def test_no_child_outlives_its_comparison_and_what_was_measured_is_kept(failing, name):
    how, is_killed = getattr(signal, name), name == "SIGKILL"
    with start(
        "compare", "--backends", "numpy,sleeping", *SHORT, "--output", "out", env=failing
    ) as process:
        path = Path("sleeping")
        wait_until(lambda: path.exists() and path.read_text(), process)
        child = int(path.read_text())
        process.send_signal(how)
        out, err = process.communicate(timeout=300)
    assert process.returncode == (-how if is_killed else 128 + how), (out, err)
    assert "Traceback" not in err
    wait_until(lambda: not is_running(child))
    record = read(Path("out"))
    assert record.outcome == ("running" if is_killed else "interrupted")
    assert len(record.candidates[0].trials[0].epochs) == 2
    if not is_killed:
        assert "Interrupted: this is what was measured until then." in out
    there("report", "out").ended()


def test_a_new_comparison_beside_an_old_one(compared):
    folder, _ = compared
    arguments = ("compare", "--backends", "numpy", *SHORT, "--lr", "0.5", "--output", "new")
    done = there(*arguments, "--against", folder).ended()
    for out in (done.out, there("report", "new").out):
        assert "× before" in out
        assert "The older comparison says: cell rnn, 12 hidden units; optimizer sgd, lr 1;" in out


def test_what_is_checked_is_what_is_compared(tmp_path):
    source = """
        def build(arrays, options):
            if "W_e" in arrays and options.cell == "rnn-relu":
                arrays = {**arrays, "W_e": 2 * arrays["W_e"]}
            return numpy.scratch.build(arrays, options)
        scratch = changed(scratch, build=build)
    """
    env = packages(tmp_path / "more", {"stubborn": source})
    arguments = ("compare", "--backends", "stubborn", *SHORT)
    there(*arguments, env=env).ended()
    done = there(*arguments, "--cell", "rnn-relu", "--embedding", "5", env=env).ended(1)
    assert "its check failed in" in done.out


def test_environments_of_a_backend_stand_in_one_table(tmp_path):
    # One of them has a name for this backend, and the others have one for all backends.
    bare = tmp_path / "bare"  # an interpreter without the project
    paths = {"numpy@1.26-same": sys.executable, "shared": sys.executable, "bare": bare}
    pythons = [f"--python={name}={path}" for name, path in paths.items()]
    names = "numpy,numpy@1.26-same:fast,numpy@shared,numpy@bare,numpy@1.26-same:fast"
    done = there("compare", "--candidates", names, *pythons, *SHORT, "--output", "out").ended(1)
    record = read(Path("out"))
    timed = [row.candidate.name for row in summary.timed(record)]
    assert timed == ["numpy", "numpy@1.26-same fast", "numpy@shared"]
    ((name, (failure,)),) = ((c.name, c.failures) for c in record.candidates if c.failures)
    assert name == "numpy@bare"
    assert f"{bare} could not be started" in failure.reason
    assert sys.executable not in Path("out/comparison.json").read_text(encoding="utf-8")
    assert "--python=numpy@1.26-same=PATH --python=shared=PATH" in record.command
    assert "numpy@1.26-same: numpy " in done.out
    colors = [pictures._color(Candidate("numpy", "fast", at), record) for at in ("", "1.26-same")]
    assert colors[0] != colors[1]


def test_a_training_ends_when_the_target_is_reached():
    sizes = {"num_hiddens": 16, "num_steps": 8, "batch_size": 8, "max_tokens": 2000}
    more = {"target": 15, "seeds": 2, "num_epochs": 60, "valid_tokens": 400, "output": "out"}
    arguments = ("--backends", "numpy", *SHORT, *options(**sizes, **more))
    done = there("compare", *arguments).ended()
    record = read(Path("out"))
    (candidate,) = record.candidates
    for trial in candidate.trials:
        *before, last = [epoch.held_out for epoch in trial.epochs]
        assert last <= 15 < min(before)
        assert len(trial.epochs) < 60
    ends = [trial.epochs[-1].held_out for trial in candidate.trials]
    assert f"{record.unigram:.2f}" in done.out
    assert 10 < record.unigram < 20
    with Path("out/comparison.csv").open(newline="", encoding="utf-8") as file:
        (columns,) = csv.DictReader(file)
    times = [trial.seconds for trial in candidate.trials]
    assert float(columns["target_seconds_median"]) == statistics.median(times)
    assert float(columns["held_out_high"]) == max(ends)
    assert (columns["reached"], columns["seeds"]) == ("2 of 2", "2")
