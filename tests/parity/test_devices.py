"""Every framework on a device that is not the CPU, which is emulated beside it."""

import json
import re

import pytest
from emulated import DEVICE
from helpers import (
    CLONE,
    SMALL,
    TEST_FILES,
    assert_same,
    in_one_process,
    options,
    parameters,
    there,
)

from rnn_scratch.contract import CELLS, VARIANTS

# What is checked by default, because of the time. TensorFlow is also checked on the CPU, where the
# device is what it would choose itself.
BY_DEFAULT = {
    "torch": (DEVICE, *VARIANTS),
    "tensorflow": (f"{DEVICE},cpu", "fast"),
    "mxnet": (DEVICE, *VARIANTS),
    "jax": (DEVICE, "fast"),
}


@pytest.fixture
def framework(own_name):
    """The name of a backend whose framework can have the device."""
    if own_name == "numpy":
        pytest.skip("NumPy computes on the CPU only")
    return own_name


def test_functions_stay_on_the_device_and_copies_are_few(framework, emulated):
    package, arguments = f"rnn_scratch.backends.{framework}", BY_DEFAULT[framework]
    program = ("-m", "transfers")
    done = there(package, framework, *arguments, program=program, env=emulated).ended()
    assert done.out == f"checked {' '.join(arguments[1:])}\n"


@pytest.mark.frameworks
@pytest.mark.parametrize("cell", CELLS)
def test_every_variant_passes_the_check(framework, cell, emulated):
    # And TensorFlow's on the CPU, where it would prefer the device.
    for device in (DEVICE, "cpu") if framework == "tensorflow" else (DEVICE,):
        command = ("check", framework, "--device", device, "--cell", cell, "--json")
        done = there(*command, env=emulated)
        failures = [row for row in json.loads(done.out) if not row["passed"]]
        if framework == "jax":  # whose two CPUs have a thread each
            failures = [row for row in failures if row["piece"] != "set_threads"]
        assert failures == []


@pytest.mark.frameworks(by_default=("torch",))
def test_training_and_inference_on_each_device(framework, emulated):
    small = options(**SMALL, optimizer="adam", layers=2, dropout=0.2)
    train = ("train", "--backend", framework, *small)
    resume = ("train", "--resume", "r", "--epochs")
    on_each = (
        ([*train, "--run", "r", "--epochs", 2], DEVICE),  # the first one that is reported
        # A run is resumed on its own device, unless it is moved.
        ([*resume, 3], DEVICE),
        ([*resume, 4, "--device", "cpu"], "cpu"),
        ([*resume, 5], "cpu"),
        ([*resume, 6, "--device", "auto"], DEVICE),
        ([*train, "--run", "whole", "--epochs", 6, "--device", "cpu"], "cpu"),
    )
    read = (("predict", "r", "--prefix", "the "), ("evaluate", "r", "--corpus", "tide-clock"))
    places = (("--device", DEVICE), ("--device", "cpu"))
    inferred = [(*command, *place) for command in read for place in places]
    compared = ("compare", "--backends", framework, "--models", "scratch", *small)
    compared += ("--epochs", 1, "--repeats", 1, "--device", DEVICE, "--output", "c")
    commands = [*(command for command, _ in on_each), *inferred, ("backends",), compared]
    outputs = in_one_process(*commands, env=emulated)
    for output, (_, device) in zip(outputs, on_each):
        assert f"{framework} (scratch) on {device}" in output
    assert_same(parameters("r"), parameters("whole"))
    predicted, again, evaluated, once_more, listing, _ = outputs[len(on_each) :]
    assert (predicted, evaluated) == (again, once_more)
    assert f"{DEVICE}, cpu" in listing
    with open("c/comparison.json", encoding="utf-8") as file:
        (candidate,) = json.load(file)["candidates"]
    assert "failures" not in candidate
    assert candidate["ready"]["device"] == DEVICE


@pytest.mark.frameworks
def test_the_project_s_own_tests_run_on_it(framework, emulated):
    names = ("training", "inference", "runs")
    files = [TEST_FILES[f"test_{name}"] for name in names]
    chosen = ("--backends", framework, "-k", f"{framework}-{DEVICE}")
    chosen += ("-v", "-p", "no:cacheprovider")
    done = there(*chosen, *files, program=("-m", "pytest"), env=emulated, cwd=CLONE).ended()
    for name in names:  # of each, at least one has run
        assert re.search(rf"test_{name}.py s*\.", done.out), done.out
    done = there("--devices", "tpu", files[-1], program=("-m", "pytest"), env=emulated, cwd=CLONE)
    assert done.code != 0
    assert "--devices: no backend reports tpu" in done.out + done.err
