"""Tests of the tests: each mistake of the sabotages makes the check fail, in the right piece."""

from functools import partial

import numpy as np
import pytest
from helpers import CLONE, TEST_FILES, require_tested, there
from measure.measuring import load
from sabotages import OF_COMPILER, OF_DEVICES, OF_THREADS, SABOTAGES, changed_copy, make

from rnn_scratch import registry
from rnn_scratch.check import epochs, inputs, machine, runner
from rnn_scratch.check.inputs import DEEP, PLAIN, in_each_dtype
from rnn_scratch.check.results import worst
from rnn_scratch.contract import Update
from rnn_scratch.system import host

pytestmark = pytest.mark.sabotages(by_default=("numpy", "torch"))

by_mistake = pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)


def first_failure(rows):
    return next((row for row in rows if not row.passed), None)


def assert_named(row, sabotage):
    assert row is not None, "not detected"
    assert row.piece == sabotage.piece, row
    assert sabotage.result in f"{row.result} {row.where} {row.note}", row


@by_mistake
def test_a_mistake_in_a_backend_is_detected_and_named(
    backend, backend_name, sabotage, tmp_path, monkeypatch
):
    if backend_name not in sabotage.changes:
        pytest.skip(f"{backend_name} cannot have this mistake")
    wrong = load(changed_copy(backend, tmp_path, sabotage.changes[backend_name], sabotage.file))
    cases = in_each_dtype(sabotage.only)
    if sabotage.piece == "synchronize":  # or a busy machine hides it
        monkeypatch.setattr(machine, "LEAST_TIME", 0.5)
    rows = runner.check(backend_name, wrong, sabotage.model, cases, short=True)
    assert_named(first_failure(rows), sabotage)


@pytest.mark.parametrize(
    ("file", "line", "bent"),
    [
        ("scratch.py", 'state[0] @ params["W_hq"]', PLAIN),
        ("deep.py", 'x @ params["W_hq"]', DEEP),
    ],
    ids=["step", "deep_step"],
)
def test_an_edit_of_a_step_bends_the_training_of_its_networks_only(
    backend, backend_name, file, line, bent, tmp_path
):
    both = backend, load(changed_copy(backend, tmp_path, (line, f"2 * {line}"), file))
    for options in (PLAIN, DEEP):
        cases = [inputs.make_case(backend_name, each, "scratch", options) for each in both]
        before, after = (epochs.updated(case, Update())[0] for case in cases)
        assert (worst(before, after).difference == 0) == (options != bent)


LESSONS = ("scratch.py", "cells.py", "deep.py")
IN_THE_REFERENCE = [
    s
    for s in SABOTAGES
    if "numpy" in s.changes and s.model == "scratch" and s.file in LESSONS
    if "in float64" not in s.name  # of float32 nothing is recorded
]
IN_ITS_BACKWARD_PASS = [
    s for s in IN_THE_REFERENCE if s.piece == "gradients" and s.result.startswith(("W_", "b_"))
]


@pytest.mark.parametrize(
    ("sabotage", "recorded"),
    [(s, True) for s in IN_THE_REFERENCE] + [(s, False) for s in IN_ITS_BACKWARD_PASS],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_mistake_in_the_reference_itself_is_detected_and_named(
    sabotage, recorded, tmp_path, monkeypatch
):
    # As if its file were changed: reference and candidate are then the same, with the mistake. Of
    # a new cell nothing is recorded, and its backward pass is wrong.
    change = sabotage.changes["numpy"]
    wrong = load(changed_copy(registry.load("numpy"), tmp_path, change, sabotage.file))
    monkeypatch.setattr(registry, "load", lambda name: wrong)
    if not recorded:
        monkeypatch.setattr(inputs, "recorded", dict)
    every = inputs.cases(cells=[sabotage.only.cell])
    row = first_failure(runner.check("numpy", wrong, cases=every))
    assert_named(row, sabotage)
    assert recorded or "by finite differences" in row.result


PROGRAM = """if True:
    import importlib, sys
    from rnn_scratch.check import machine
    backend = importlib.import_module(sys.argv[1])
    for row in (*machine.set_threads(backend), *machine.used_threads(backend)):
        if not row.passed:
            print(row.piece, row.where)
"""
# With another number than those that are set.
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC")


@pytest.mark.parametrize("sabotage", OF_THREADS, ids=lambda sabotage: sabotage.name)
def test_a_mistake_in_the_number_of_threads_is_detected(backend, own_name, sabotage, tmp_path):
    if sabotage.result == "more compute" and host.cores() == 1:
        pytest.skip("one processor computes whatever the number of threads is")

    def run(change):
        package = changed_copy(backend, tmp_path, change, sabotage.file)
        env = {"PYTHONPATH": tmp_path, **dict.fromkeys(THREADS, 3)}
        return there(package.name, program=("-c", PROGRAM), env=env).ended().out

    first = run(sabotage.changes[own_name])
    assert first.startswith(sabotage.piece)
    assert sabotage.result in first
    assert not run(())


OPTIMIZED = """if True:
    import importlib, sys
    from rnn_scratch.check import inputs, runner
    backend, cases = importlib.import_module(sys.argv[1]), inputs.in_each_dtype(inputs.PLAIN)
    for row in runner.check("jax", backend, cases=cases, short=True):
        if not row.passed:
            print(row.piece, row.result)
"""


@pytest.mark.sabotages
def test_a_mistake_of_a_compiler_that_optimizes_is_detected(backend_names, tmp_path):
    require_tested(backend_names, "jax")
    changes = OF_COMPILER.changes["jax"]
    package = changed_copy(registry.load("jax"), tmp_path, changes, OF_COMPILER.file)
    env = {"PYTHONPATH": tmp_path, "XLA_FLAGS": ""}
    done = there(package.name, program=("-c", OPTIMIZED), env=env).ended()
    assert done.out.startswith(f"{OF_COMPILER.piece} ")
    assert OF_COMPILER.result in done.out.splitlines()[0]


@pytest.mark.sabotages
@pytest.mark.parametrize("sabotage", OF_DEVICES, ids=lambda sabotage: sabotage.name)
def test_a_mistake_of_devices_is_detected_and_named(
    backend, own_name, sabotage, tmp_path, emulated
):
    if own_name == "numpy" or own_name not in sabotage.changes:
        pytest.skip(f"{own_name} cannot have this mistake")
    package = changed_copy(backend, tmp_path, sabotage.changes[own_name], sabotage.file)
    devices = "emu,cpu" if own_name == "tensorflow" else "emu"  # see test_devices
    arguments = (package.name, own_name, devices, "scratch")
    done = there(*arguments, program=("-m", "transfers"), env=emulated).ended()
    assert done.out.startswith(f"{sabotage.piece} in ")
    assert sabotage.result in done.out


def test_set_eager_ends_the_use_of_graphs(request, backend_names):
    require_tested(backend_names, "mxnet")  # only its backend has graphs of its own
    from rnn_scratch.backends.mxnet import graphs, machine

    calls = []

    @graphs.graph
    def double(x, options):
        calls.append(x)
        return 2 * x

    request.addfinalizer(lambda: machine.set_eager(False))
    x = machine.tensor(np.ones(3), "cpu")
    for eager, number in ((False, 1), (True, 3)):
        machine.set_eager(eager)
        assert [machine.array(double(x, None)).sum() for _ in range(2)] == [6, 6]
        assert len(calls) == number


def test_each_piece_has_a_mistake():
    rows = runner.check("numpy", registry.load("numpy"), short=True)
    detected = {sabotage.piece for sabotage in (*SABOTAGES, *OF_THREADS)}
    assert {row.piece for row in rows} <= detected


# Mistakes in the core, which reference and candidate share: values pinned in tests detect them.
MINIBATCHES = ("text/minibatches.py", "test_minibatches")
DECODING = ("runs/decoding.py", "test_decoding")
CORE_MISTAKES = {
    "offset one too far": (*MINIBATCHES, ".randint(num_steps)", ".randint(num_steps + 1)"),
    "offset ignored": (*MINIBATCHES, "X_rows = tokens[offset :", "X_rows = tokens[0 :"),
    "the least likely token chosen": (
        *DECODING,
        "int(np.argmax(logits))",
        "int(np.argmin(logits))",
    ),
    "temperature multiplied": (*DECODING, "logits.max()) / temp", "logits.max()) * temp"),
    "the last token of top-p left out": (*DECODING, "sums[-1])) + 1)", "sums[-1])))"),
    "weights drawn with the variance for the standard deviation": (
        *("parameters.py", "test_epoch"),
        *("rng.normal(0, sigma,", "rng.normal(0, sigma**2,"),
    ),
}


@pytest.mark.sabotages
@pytest.mark.parametrize("mistake", CORE_MISTAKES)
def test_a_mistake_in_the_core_is_detected_by_pinned_values(mistake, copy):
    file, tests, *change = CORE_MISTAKES[mistake]
    make(change, copy / "rnn_scratch" / file)
    program = ("-m", "pytest", "-x", "-p", "no:cacheprovider", "--backends", "numpy")
    command = partial(there, program=program, cwd=CLONE / "tests", env={"PYTHONPATH": copy})
    done = command(TEST_FILES[tests]).ended(1)
    assert "FAILED" in done.out, done.out
