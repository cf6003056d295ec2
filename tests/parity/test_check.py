"""`rnn-scratch check` at the command line, and the other commands, on devices but the CPU too."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from helpers import SMALL, TEST_FILES, assert_same, here, options, parameters, there

from rnn_scratch import registry
from rnn_scratch.check import inputs, results, runner
from rnn_scratch.contract import VARIANTS


def test_every_result_of_the_reference_is_recorded():
    for chosen in (each for each in inputs.cases(cells=["rnn"]) if each.dtype == "float64"):
        case = inputs.make_case("numpy", registry.load("numpy"), "scratch", chosen)
        names = {
            f"{case.name_of(piece)}: {result.name}"
            for piece in runner.of_case(case)
            for result in piece(case)
            if isinstance(result, results.Computed) and result.expected is None
        }
        assert names == set(inputs.recorded()[case.label])


def check(*arguments, **more):
    done = there("check", *arguments, "--json", **more)
    assert "Traceback" not in done.err
    return done.code, json.loads(done.out)


@pytest.mark.parametrize(
    ("device", "cell", "least"), [("gpu", "rnn", 150), ("cpu", "lstm", 50), ("auto", "gru", 50)]
)
def test_a_device_that_is_not_the_cpu_is_checked(two_devices, device, cell, least):
    cell = ("--cell", cell)
    code, rows = check("two", "--model", "scratch", "--device", device, *cell, env=two_devices)
    failures = [row for row in rows if not row["passed"]]
    assert (code, failures) == (0, [])
    assert len(rows) > least


def test_whatever_assumes_the_cpu_fails(two_devices, tmp_path):
    file = tmp_path / "two_rnn" / "scratch.py"
    text = file.read_text()
    changed = text.replace("batch.map(tensor, model.options.device)", 'batch.map(tensor, "cpu")')
    assert changed != text
    file.write_text(changed)
    cell = ("--cell", "rnn")
    code, rows = check("two", "--model", "scratch", "--device", "gpu", *cell, env=two_devices)
    assert code == 1
    first = next(row for row in rows if not row["passed"])
    assert "tensors on different devices: ['cpu', 'gpu']" in first["where"]


def test_all_variants_are_checked_by_default_and_some_cells_on_request(capsys):
    code, rows = check("numpy", "--cell", "lstm", "--cell", "rnn")
    assert code == 0
    cells = [row["case"].split()[1] for row in rows if row["piece"] == "forward" and row["offered"]]
    assert list(dict.fromkeys(cells)) == ["lstm", "rnn"]
    assert list(dict.fromkeys(row["model"] for row in rows)) == list(VARIANTS)
    assert {row["offered"] for row in rows if row["model"] == "concise"} == {True, False}
    assert all(row["offered"] for row in rows if row["model"] != "concise")
    here(capsys, "check", "--exact", "--cell", "gru", "--cell", "rnn").refused(
        "`--exact` trains one cell at a time (got `--cell` gru, rnn)."
    )


def test_the_table_says_what_is_not_offered():
    models = ("--model", "fast", "--model", "concise")
    done = there("check", "numpy", *models, "--cell", "rnn").ended()
    assert "numpy, fast, rnn: " in done.out
    assert "within the tolerance" in done.out
    assert "not offered" in done.out
    assert "no recurrent layer of its own" in done.out
    assert "numpy, scratch" not in done.out


# Nothing assumes the CPU: a small backend with two devices, which refuse each other's tensors.

TESTS = Path(__file__).parents[1]
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
    done = own("-v", "-k", "two-gpu", *(TEST_FILES[f"test_{name}"] for name in names)).ended()
    for name in names:  # of each, at least one has run
        assert re.search(rf"test_{name}.py s*\.", done.out), done.out
    done = own("--devices", "tpu", TEST_FILES["test_host"])
    assert done.code != 0
    assert "--devices: no backend reports tpu" in done.out + done.err
