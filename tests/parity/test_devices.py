"""Frameworks on an emulated device, whose tensors cannot be combined with CPU tensors."""

import json

import pytest
from emulated import DEVICE, DEVICES
from helpers import (
    SMALL,
    assert_same,
    in_one_process,
    options,
    parameters,
    run_subprocess,
)

from rnn_scratch.contract import CELLS


@pytest.fixture
def framework(builtin_name):
    """Return the name of a backend whose framework can use the emulated device."""
    if builtin_name not in DEVICES:
        pytest.skip(f"{builtin_name} has no second CPU")
    return builtin_name


@pytest.mark.frameworks
@pytest.mark.parametrize("cell", CELLS)
def test_variants_pass_the_check_on_the_device(framework, cell, emulated):
    for device in DEVICES[framework]:
        command = ("check", framework, "--device", device, "--cell", cell, "--json")
        result = run_subprocess(*command, env=emulated)
        failures = [row for row in json.loads(result.out) if not row["passed"]]
        assert failures == []


@pytest.mark.frameworks
def test_runs_move_between_devices(framework, emulated):
    small = options(**SMALL, optimizer="adam", layers=2, dropout=0.2)
    train = ("train", "--backend", framework, *small)
    resume = ("train", "--resume", "r", "--epochs")
    steps = (
        ([*train, "--output", "r", "--epochs", 2, "--device", "auto"], DEVICE),
        # A resumed run stays on the last session's device, unless an option moves it.
        ([*resume, 3], DEVICE),
        ([*resume, 4, "--device", "cpu"], "cpu"),
        ([*resume, 5], "cpu"),
        ([*resume, 6, "--device", "auto"], DEVICE),
        ([*train, "--output", "uninterrupted", "--epochs", 6], "cpu"),
    )
    inference = (("predict", "r", "--prefix", "the "), ("evaluate", "r", "--corpus", "tide-clock"))
    devices = (("--device", DEVICE), ("--device", "cpu"))
    inferred = [(*command, *device) for command in inference for device in devices]
    compare = ("compare", "--backends", framework, "--variants", "scratch", *small)
    compare += ("--epochs", 1, "--seconds", 1, "--device", DEVICE, "--output", "c")
    commands = [*(command for command, _ in steps), *inferred, ("backends",), compare]
    outputs = in_one_process(*commands, env=emulated)
    for output, (_, device) in zip(outputs, steps):
        assert f"{framework} (scratch) on {device}" in output
    assert f"To train on the GPU, use `--device {DEVICE}`; no GPU" in outputs[len(steps) - 1]
    assert "To train on the GPU" not in outputs[0]
    assert_same(parameters("r"), parameters("uninterrupted"))
    *results, listing, _ = outputs[len(steps) :]
    assert results[::2] == results[1::2]  # results are equal on both devices
    assert f"{DEVICE}, cpu" in listing
    with open("c/comparison.json", encoding="utf-8") as file:
        (candidate,) = json.load(file)["candidates"]
    assert "failure" not in candidate
    assert candidate["environment"]["device"] == DEVICE
