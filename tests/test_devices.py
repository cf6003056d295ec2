"""Nothing assumes the CPU: a small backend with two devices, which refuse each other's tensors."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from helpers import SMALL, assert_same, options, parameters, there

TESTS = Path(__file__).parent
TRAIN = ("train", "--backend", "two", *options(**SMALL))


# Appended to the backend's module `scratch`: records the devices on which models are built.
RECORDING = """

build_model = build


def build(arrays, options):
    with open("devices.txt", "a") as file:
        print(options.device, file=file)
    return build_model(arrays, options)
"""


@pytest.fixture
def run(two_devices, tmp_path):
    """A function that runs a command, and checks that models are built on this device only."""
    with open(tmp_path / "two_rnn" / "scratch.py", "a", encoding="utf-8") as file:
        file.write(RECORDING)

    def command(device, *arguments):
        done = there(*arguments, env=two_devices).ended()
        assert set(Path("devices.txt").read_text().split()) == {device}
        Path("devices.txt").unlink()
        return done.out

    return command


def test_training_and_inference_on_each_device(run, two_devices):
    # The first device that a backend reports is the default.
    output = run("gpu", *TRAIN, *options(num_epochs=2, run="r"))
    assert "two (scratch) on gpu" in output
    # A run is resumed on its own device, unless it is moved.
    resume = ("train", "--resume", "r", "--epochs")
    for epochs, arguments, device in (
        (3, [], "gpu"),
        (4, ["--device", "cpu"], "cpu"),
        (5, [], "cpu"),
        (6, ["--device", "auto"], "gpu"),
    ):
        assert f"two (scratch) on {device}" in run(device, *resume, epochs, *arguments)
    assert "numpy (scratch) on cpu" in there(*resume, 7, "--backend", "numpy", env=two_devices).out
    run("gpu", *resume, 8, "--backend", "two")
    run("cpu", *TRAIN, *options(num_epochs=8, run="whole", device="cpu"))
    assert_same(parameters("r"), parameters("whole"))
    outputs = {
        run(device, *command, *place)
        for command in (
            ("predict", "r", "--prefix", "the "),
            ("evaluate", "r", "--corpus", "tide-clock"),
        )
        for device, place in (("gpu", ()), ("cpu", ("--device", "cpu")))
    }
    assert len(outputs) == 2  # one of each command
    elsewhere = there("predict", Path("r").resolve(), "--prefix", "the ", cwd=TESTS)
    elsewhere.refused("There is no backend 'two'", "numpy")


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_compare_on_each_device(run, device):
    settings = options(**SMALL, num_epochs=2, repeats=1, output="c", device=device)
    run(device, "compare", "--backends", "two", *settings)
    record = json.loads(Path("c/comparison.json").read_text(encoding="utf-8"))
    (candidate,) = record["candidates"]
    assert "failures" not in candidate
    assert candidate["ready"]["device"].split(":")[0] == device


@pytest.mark.student
def test_the_project_s_own_tests_run_on_a_device_that_is_not_the_cpu(two_devices):
    command = ("-p", "no:cacheprovider", "--backends", "two")
    own = partial(there, *command, program=("-m", "pytest"), env=two_devices, cwd=TESTS.parent)
    names = ("training", "inference", "runs", "host", "exact", "parity")
    done = own("-v", "-k", "two-gpu", *(TESTS / f"test_{name}.py" for name in names)).ended()
    for name in names:  # of each, at least one has run
        assert re.search(rf"test_{name}.py s*\.", done.out), done.out
    done = own("--devices", "tpu", TESTS / "test_host.py")
    assert done.code != 0
    assert "--devices: no backend reports tpu" in done.out + done.err
