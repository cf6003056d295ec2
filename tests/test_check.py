"""`rnn-scratch check` at the command line, and on a device that is not the CPU."""

import json

import pytest
from helpers import SMALL, here, options, there

from rnn_scratch import registry
from rnn_scratch.check import inputs, results, runner
from rnn_scratch.contract import VARIANTS


def test_every_result_of_the_reference_is_recorded():
    for chosen in (each for each in inputs.cases(cells=["rnn"]) if each.dtype == "float64"):
        case = inputs.make_case("numpy", registry.load("numpy"), "scratch", chosen)
        names = {
            f"{piece.__name__}: {result.name}"
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
    ("device", "cell", "least"),
    [("gpu", "rnn", 150), ("cpu", "lstm", 50), ("auto", "gru", 50)],
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


def test_all_variants_are_checked_by_default_and_one_cell_on_request():
    code, rows = check("numpy", "--cell", "lstm")
    assert code == 0
    cases = {row["case"] for row in rows if row["piece"] == "forward" and row["offered"]}
    assert cases
    assert all("lstm" in case.split() for case in cases)
    assert list(dict.fromkeys(row["model"] for row in rows)) == list(VARIANTS)
    assert {row["offered"] for row in rows if row["model"] == "concise"} == {True, False}
    assert all(row["offered"] for row in rows if row["model"] != "concise")


def test_several_cells_are_checked(capsys):
    code, rows = check("numpy", "--model", "fast", "--cell", "lstm", "--cell", "rnn")
    assert code == 0
    cells = [row["case"].split()[1] for row in rows if row["piece"] == "forward"]
    assert list(dict.fromkeys(cells)) == ["lstm", "rnn"]
    here(capsys, "check", "--exact", "--cell", "gru", "--cell", "rnn").refused(
        "--exact trains one cell at a time; --cell is gru, rnn"
    )


def test_the_table_says_what_is_not_offered():
    models = ("--model", "fast", "--model", "concise")
    done = there("check", "numpy", *models, "--cell", "rnn").ended()
    assert "numpy, fast, rnn: " in done.out
    assert "within the tolerance" in done.out
    assert "not offered" in done.out
    assert "no recurrent layer of its own" in done.out
    assert "numpy, scratch" not in done.out


def test_exact_mode_names_the_cell_that_is_not_the_default():
    settings = options(**{**SMALL, "num_hiddens": 4}, num_epochs=1)
    printed = there("check", "numpy", "--exact", "--cell", "gru", *settings).out
    assert "numpy (gru)" in printed
    assert "rnn" not in there("check", "numpy", "--exact", "--cell", "rnn", *settings).out
