"""Test that the check fails for each backend mutation and names the right function."""

import pytest
from backend_mutations import (
    DEVICE_MUTATIONS,
    MUTATIONS,
    fixed_draws,
    mutated_copy,
)
from emulated import DEVICES
from helpers import require_tested, run_subprocess
from measure.measuring import load

from rnn_scratch import registry
from rnn_scratch.check import draws, results, runner
from rnn_scratch.contract import ModelConfig

pytestmark = pytest.mark.mutations(by_default=("numpy",))


def first_failure(rows):
    return next((row for row in rows if not row.passed), None)


def assert_named(row, mutation):
    assert row is not None, "not detected"
    assert row.function == mutation.function, row
    assert mutation.output in f"{row.output} {row.location}", row


# The default tests insert every fifth mistake.
SOME_BY_DEFAULT = [
    pytest.param(mutation, id=mutation.name, marks=[pytest.mark.mutations] * (index % 5 > 0))
    for index, mutation in enumerate(MUTATIONS)
]


@pytest.mark.parametrize("mutation", SOME_BY_DEFAULT)
def test_a_mistake_in_a_backend_is_detected_and_named(backend, backend_name, mutation, tmp_path):
    if backend_name not in mutation.changes:
        pytest.skip(f"{backend_name} cannot have this mistake")
    changes = mutation.changes[backend_name]
    package = mutated_copy(backend, tmp_path, changes, mutation.file, mutation.within)
    mutated = load(package)
    cases = [*fixed_draws(ModelConfig(11, 512)), draws.draw_large(0)] if mutation.large else None
    rows = runner.check(mutated, mutation.model, cases)
    assert_named(first_failure(rows), mutation)


LESSONS = ("scratch.py", "cells.py", "deep.py")
IN_THE_REFERENCE = [
    s
    for s in MUTATIONS
    if "numpy" in s.changes and s.model == "scratch" and s.file in LESSONS
    if s.function != "signature"
]
IN_ITS_BACKWARD_PASS = [
    s for s in IN_THE_REFERENCE if s.function == "gradients" and s.output.startswith(("W_", "b_"))
]


@pytest.mark.mutations
@pytest.mark.parametrize(
    ("mutation", "recorded"),
    [(s, True) for s in IN_THE_REFERENCE] + [(s, False) for s in IN_ITS_BACKWARD_PASS],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_mistake_in_the_reference_itself_is_detected_and_named(
    mutation, recorded, tmp_path, monkeypatch
):
    # The reference and the candidate share the mistake. Without recorded values, as for a new
    # cell, only finite differences can detect a mistake in the backward pass.
    change = mutation.changes["numpy"]
    package = mutated_copy(registry.load("numpy"), tmp_path, change, mutation.file, mutation.within)
    mutated = load(package)
    monkeypatch.setattr(registry, "load", lambda name: mutated)
    if not recorded:
        monkeypatch.setattr(results, "read_data", lambda name: {})
    row = first_failure(runner.check(mutated))
    trains = mutation.function in ("train_epoch", "train_minibatch")
    if trains and row and row.function in ("train_minibatch", "sequence"):
        return  # training resumes from values that the mutated reference trained
    assert_named(row, mutation)
    assert recorded or "by finite differences" in row.output


LARGE_TENSORS = """if True:
    import importlib, sys
    from rnn_scratch.check import draws, functions, runner, training
    from rnn_scratch import registry
    backend = registry.assemble("torch", importlib.import_module(sys.argv[1]))
    backend.machine.set_threads(2)
    cases = [draws.draw_large(0), draws.draw_large(1)]
    checks = (functions.gradients, training.train_minibatch)
    for row in runner.compare(backend, "fast", cases, checks):
        if not row.passed:
            print(row.function)
"""


def test_a_mistake_with_two_threads_is_detected(backend_names, tmp_path):
    require_tested(backend_names, "torch")
    change = "dz.flatten(0, 1)\n", "dz.flatten(0, 1) * min(torch.get_num_threads(), 2)\n"
    package = mutated_copy(registry.load("torch"), tmp_path, change, "products.py")
    result = run_subprocess(
        package.name, program=("-c", LARGE_TENSORS), env={"PYTHONPATH": tmp_path}
    ).assert_exit()
    assert result.out.startswith("gradients")


@pytest.mark.mutations
@pytest.mark.parametrize("mutation", DEVICE_MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_device_mistake_is_detected_and_named(
    backend, builtin_name, mutation, tmp_path, emulated
):
    if builtin_name not in DEVICES or builtin_name not in mutation.changes:
        pytest.skip(f"{builtin_name} cannot have this mistake")
    package = mutated_copy(backend, tmp_path, mutation.changes[builtin_name], mutation.file)
    arguments = (package.name, builtin_name)
    result = run_subprocess(*arguments, program=("-m", "emulated"), env=emulated).assert_exit()
    assert result.out.startswith(f"{mutation.function}: ")
    assert mutation.output in result.out


def test_each_checked_function_has_a_mistake_in_some_backend():
    rows = runner.check(registry.load("numpy"))
    assert {row.function for row in rows} <= {mutation.function for mutation in MUTATIONS}
