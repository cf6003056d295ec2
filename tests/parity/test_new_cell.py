"""A cell and an optimizer that the project does not have, added as the page for contributors says.

For each, one declaration and a function per backend are enough.
"""

import json
import re
from functools import partial

import numpy as np
import pytest
from helpers import CONTRIBUTING, SETTINGS, assert_same, environment, in_one_process, lion, options
from sabotages import make
from safetensors.numpy import load_file

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

DECLARATION = 'CELLS = {\n    "mgu": Cell(gates=("f", "h"), products=(1, 1)),\n'
# The minimal gated unit: one gate, which forgets and resets.
CELL = '''def mgu(x, state, params):
    """A minimal gated unit."""
    (h,) = state
    f = gate(x, h, "f", params)
    new = TANH(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"])
    return ((1 - f) * h + f * new,)


'''
BACKWARD = '''def mgu_back(d_after, after, x, before, params):
    """Its backward pass."""
    (d_h,), (h,) = d_after, before
    f = gate(x, h, "f", params)
    new = np.tanh(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"])
    d_x_h, d_fh, grads_h = gates_back({"h": d_h * f * (1 - new * new)}, x, f * h, params)
    d_f = (d_h * (new - h) + d_fh * h) * f * (1 - f)
    d_x_f, d_h_f, grads_f = gates_back({"f": d_f}, x, h, params)
    return d_x_h + d_x_f, (d_h * (1 - f) + d_fh * f + d_h_f,), grads_h | grads_f


'''
MODULE = {"torch": "torch", "tensorflow": "tf", "jax": "jnp"}  # of `tanh` and `sign`, or np
TABLE, TABLE_BACK = "CELLS |= {", "CELLS_BACK |= {"
(DECLARED_LION,) = re.findall(r'`("lion": Optimizer\(.*?\)\))`', CONTRIBUTING.replace(",\n", ", "))
DECLARED, OPTIMIZERS = "OPTIMIZERS = {  # the default first\n", "OPTIMIZERS |= {"
SMALL = options(text="long.txt", cell="mgu", optimizer="lion", **SETTINGS)


@pytest.fixture
def run(copy):
    """A function that runs commands in a copy of the project that has both."""
    declared = DECLARED, f"{DECLARED}    {DECLARED_LION},\n"
    make(("CELLS = {\n", DECLARATION, *declared), copy / "rnn_scratch" / "contract.py")
    for folder in copy.glob("backends/*/"):
        name = folder.name
        cell = CELL.replace("TANH", f"{MODULE.get(name, 'np')}.tanh")
        if name == "numpy":
            cell += BACKWARD
            make((TABLE_BACK, f'{TABLE_BACK}"mgu": mgu_back, '), folder / "cells.py")
        make((TABLE, f'{cell}{TABLE}"mgu": mgu, '), folder / "cells.py")
        make((OPTIMIZERS, f'{lion(name)}\n\n{OPTIMIZERS}"lion": lion, '), folder / "deep.py")
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
    assert np.any(whole["m.W_hh"])
    text = predicted.splitlines()[-1]
    assert text.startswith("it was ")
    assert len(text) == len("it was ") + 9
    own = [row for row in json.loads(checked) if "mgu" in row["case"].split()]
    pieces = {row["piece"] for row in own if row["model"] == "scratch"}
    assert {"mgu", "step", "forward", "gradients", "train_epoch", "predict"} <= pieces
    assert {row["offered"] for row in own if row["model"] == "fast"} == {False}
    assert "lion" in {row["piece"] for row in json.loads(checked)}
    assert json.loads(exact)["equal"]


def test_they_are_compared(run, copy):
    compare = ("compare", "--backends", "numpy", "--models", "scratch,fast")
    run((*compare, "--epochs", 1, "--repeats", 1, "--output", "out", *SMALL))
    record = json.loads((copy / "out" / "comparison.json").read_text(encoding="utf-8"))
    scratch, fast = record["candidates"]
    assert "failures" not in scratch
    assert fast["failures"][0]["kind"] == "not offered"
