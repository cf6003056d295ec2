"""A cell and an optimizer that the project does not have.

For each, one declaration and a function per backend are enough, also for an optimizer that uses
the number of the update.
"""

import json
from functools import partial

import numpy as np
import pytest
from helpers import assert_same, environment, in_one_process, options
from sabotages import make
from safetensors.numpy import load_file

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

DECLARATION = 'CELLS = {\n    "mgu": Cell(gates=("f", "h"), products=(1, 1)),\n'
# The minimal gated unit: one gate, which forgets and resets.
CELL = '''

def mgu(x, state, params, options):
    """A minimal gated unit."""
    (h,) = state
    f = gate(x, h, "f", params)
    new = activation(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"], options)
    return ((1 - f) * h + f * new,)
'''
BACKWARD = '''

def mgu_back(d_after, after, x, before, params, options):
    """Its backward pass."""
    (d_h,), (h,) = d_after, before
    f = gate(x, h, "f", params)
    new = activation(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"], options)
    d_x_h, d_fh, grads_h = linear_back(d_h * f * slope(new, options), x, f * h, "h", params)
    d_f = (d_h * (new - h) + d_fh * h) * f * (1 - f)
    d_x_f, d_h_f, grads_f = linear_back(d_f, x, h, "f", params)
    return d_x_h + d_x_f, (d_h * (1 - f) + d_fh * f + d_h_f,), grads_h | grads_f
'''
TABLE, TABLE_BACK = "\n\nCELLS = {", "\nCELLS_BACK = {"
# Steps of one size, by signs of a running mean, which is corrected as Adam's is.
OPTIMIZER = '''

def signs(grad, slots, how, rates):
    """The signs of a running mean."""
    mean = how.beta1 * slots["mean"] + (1 - how.beta1) * grad
    corrected = mean / rates.m
    return corrected / (abs(corrected) + how.epsilon), {"mean": mean}
'''
DECLARED, OPTIMIZERS = "OPTIMIZERS = {  # the default first\n", "\n\nOPTIMIZERS = {"
SIZES = {"num_hiddens": 12, "num_steps": 6, "batch_size": 4, "max_tokens": 400}
SMALL = options(text="long.txt", cell="mgu", optimizer="signs", **SIZES)


@pytest.fixture
def run(copy):
    """A function that runs commands in a copy of the project that has both."""
    signs = 'Optimizer(lr=0.01, slots=("mean",), needs_rates=True)'
    declared = DECLARED, f'{DECLARED}    "signs": {signs},\n'
    make(("CELLS = {\n", DECLARATION, *declared), copy / "rnn_scratch" / "contract.py")
    for path in copy.glob("backends/*/scratch.py"):
        backward = BACKWARD if path.parent.name == "numpy" else ""
        make((TABLE, f'{CELL}{backward}{TABLE}"mgu": mgu, '), path)
        make((OPTIMIZERS, f'{OPTIMIZER}{OPTIMIZERS}"signs": signs, '), path)
        if backward:
            make((TABLE_BACK, f'{TABLE_BACK}"mgu": mgu_back, '), path)
    (copy / "long.txt").write_text("it was a long and quiet winter. " * 40, encoding="utf-8")
    env = environment(PYTHONPATH=copy, OMP_NUM_THREADS=1)

    return partial(in_one_process, env=env, cwd=copy)


def parameters(run):
    # Not by the project's own reader, which knows neither of them.
    return load_file(run / "checkpoint.safetensors")


def test_they_train_resume_predict_and_are_checked(run, copy, backend_name):
    train = ("train", "--backend", backend_name, *SMALL)
    models = ("--model", "scratch", "--model", "fast")
    *_, predicted, checked, exact = run(
        (*train, "--run", "whole", "--epochs", 4),
        (*train, "--run", "half", "--epochs", 2),
        ("train", "--resume", "half", "--epochs", 4),
        ("predict", "whole", "--prefix", "it was ", "--length", 9),
        ("check", backend_name, *models, "--cell", "mgu", "--json"),
        ("check", "numpy", backend_name, "--exact", "--epochs", 2, "--json", *SMALL),
    )
    assert_same(parameters(copy / "half"), parameters(copy / "whole"))
    whole = parameters(copy / "whole")
    assert set(whole) > {"W_xf", "W_hf", "b_f"}
    assert np.any(whole["mean.W_hh"])
    assert "m.W_hh" not in whole
    text = predicted.splitlines()[-1]
    assert text.startswith("it was ")
    assert len(text) == len("it was ") + 9
    own = [row for row in json.loads(checked) if " mgu " in row["case"]]
    pieces = {row["piece"] for row in own if row["model"] == "scratch"}
    assert {"step", "forward", "gradients", "train_epoch", "predict"} <= pieces
    assert {row["offered"] for row in own if row["model"] == "fast"} == {False}
    own = [row for row in json.loads(checked) if row["result"].startswith("signs ")]
    assert {row["piece"] for row in own} == {"update"}
    assert json.loads(exact)["equal"]


def test_they_are_compared(run, copy):
    compare = ("compare", "--backends", "numpy", "--models", "scratch,fast")
    run((*compare, "--epochs", 1, "--repeats", 1, "--output", "out", *SMALL))
    record = json.loads((copy / "out" / "comparison.json").read_text(encoding="utf-8"))
    scratch, fast = record["candidates"]
    assert "failures" not in scratch
    assert fast["failures"][0]["kind"] == "not offered"
