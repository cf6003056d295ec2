"""Add a cell and an optimizer to a copy of the project, as extending.md describes.

A new cell or optimizer needs only a declaration and one function per backend.
"""

import json
import re
from functools import partial

import numpy as np
import pytest
from backend_mutations import mutate_file as make
from helpers import EXTENDING, SETTINGS, assert_same, environment, in_one_process, lion, options
from safetensors.numpy import load_file

pytestmark = pytest.mark.student(by_default=("numpy",))

DECLARATION = 'CELLS = {\n    "mgu": Cell(gates=("f", "h")),\n'
# The minimal gated unit has a single gate, which serves as both forget and reset gate.
CELL = '''def mgu(x, state, params):
    """Compute one step of a minimal gated unit."""
    (h,) = state
    f = gate(x, h, "f", params)
    h_tilde = TANH(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"])
    return ((1 - f) * h + f * h_tilde,)


'''
BACKWARD = '''def mgu_backward(d_next_state, next_state, x, state, params):
    """Backpropagate through `mgu`."""
    (d_h,), (h,) = d_next_state, state
    f = gate(x, h, "f", params)
    h_tilde = np.tanh(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"])
    d_h_tilde = d_h * f * (1 - h_tilde * h_tilde)
    d_x_h, d_fh, grads_h = gates_backward({"h": d_h_tilde}, x, f * h, params)
    d_f = (d_h * (h_tilde - h) + d_fh * h) * f * (1 - f)
    d_x_f, d_h_f, grads_f = gates_backward({"f": d_f}, x, h, params)
    return d_x_h + d_x_f, (d_h * (1 - f) + d_fh * f + d_h_f,), grads_h | grads_f


'''
MODULES = {"torch": "torch", "tensorflow": "tf", "jax": "jnp"}  # modules that define `tanh`
CELLS, CELL_BACKWARD = "CELLS |= {", "CELL_BACKWARD |= {"
(DECLARED_LION,) = re.findall(r'`("lion": Optimizer\(.*?\)\))`', EXTENDING.replace(",\n", ", "))
DECLARED, OPTIMIZERS = "OPTIMIZERS = {  # the first optimizer is the default\n", "OPTIMIZERS |= {"
SMALL = options(text="long.txt", cell="mgu", optimizer="lion", **SETTINGS)


@pytest.fixture
def run(copy):
    """Add MGU and Lion to a copy of the project; return a function that runs commands there."""
    declared = DECLARED, f"{DECLARED}    {DECLARED_LION},\n"
    make(("CELLS = {\n", DECLARATION, *declared), copy / "rnn_scratch" / "contract.py")
    for folder in copy.glob("backends/*/"):
        name = folder.name
        cell = CELL.replace("TANH", f"{MODULES.get(name, 'np')}.tanh")
        if name == "numpy":
            cell += BACKWARD
            backward = CELL_BACKWARD, f'{CELL_BACKWARD}"mgu": mgu_backward, '
            make(backward, folder / "cells.py")
        make((CELLS, f'{cell}{CELLS}"mgu": mgu, '), folder / "cells.py")
        make((OPTIMIZERS, f'{lion(name)}\n\n{OPTIMIZERS}"lion": lion, '), folder / "deep.py")
    (copy / "long.txt").write_text("it was a long and quiet winter. " * 40, encoding="utf-8")
    env = environment(PYTHONPATH=copy, OMP_NUM_THREADS=1)
    return partial(in_one_process, env=env, cwd=copy)


def read_parameters(run):
    """Return a checkpoint's arrays without our reader, which lacks the new cell and optimizer."""
    return load_file(run / "checkpoint.safetensors")


def test_new_cell_and_optimizer_train_and_check(run, copy, builtin_name):
    train = ("train", "--backend", builtin_name, *SMALL)
    *_, predicted, checked, exact = run(
        (*train, "--output", "uninterrupted", "--epochs", 4),
        (*train, "--output", "resumed", "--epochs", 2),
        ("train", "--resume", "resumed", "--epochs", 4),
        ("predict", "uninterrupted", "--prefix", "it was ", "--length", 9),
        ("check", builtin_name, "--cell", "mgu", "--json"),
        ("check", "numpy", builtin_name, "--exact", "--epochs", 2, "--json", *SMALL),
    )
    arrays = read_parameters(copy / "uninterrupted")
    assert_same(read_parameters(copy / "resumed"), arrays)
    assert set(arrays) > {"W_xf", "W_hf", "b_f"}
    assert np.any(arrays["m.W_hh"])
    text = predicted.splitlines()[-1]
    assert text.startswith("it was ")
    assert len(text) == len("it was ") + 9
    rows = json.loads(checked)
    of_cell = [row for row in rows if "mgu" in row["case"].split()]
    functions = {row["function"] for row in of_cell if row["variant"] == "scratch"}
    assert {"forward", "gradients", "train_epoch", "predict"} <= functions
    assert {row["supported"] for row in of_cell if row["variant"] == "fast"} == {False}
    if builtin_name != "numpy":  # the reference has no recorded values for new functions
        assert {"mgu", "step", "lion"} <= {row["function"] for row in rows}
    assert json.loads(exact)["equal"]
