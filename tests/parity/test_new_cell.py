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

def mgu(x, state, params):
    """A minimal gated unit."""
    (h,) = state
    f = gate(x, h, "f", params)
    new = {np}.tanh(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"])
    return ((1 - f) * h + f * new,)


CELLS["mgu"] = mgu
'''
BACKWARD = '''

def mgu_back(d_after, after, x, before, params):
    """Its backward pass."""
    (d_h,), (h,) = d_after, before
    f = gate(x, h, "f", params)
    new = np.tanh(x @ params["W_xh"] + (f * h) @ params["W_hh"] + params["b_h"])
    d_x_h, d_fh, grads_h = gates_back({"h": d_h * f * (1 - new * new)}, x, f * h, params)
    d_f = (d_h * (new - h) + d_fh * h) * f * (1 - f)
    d_x_f, d_h_f, grads_f = gates_back({"f": d_f}, x, h, params)
    return d_x_h + d_x_f, (d_h * (1 - f) + d_fh * f + d_h_f,), grads_h | grads_f


CELLS_BACK["mgu"] = mgu_back
'''
# Steps of one size, by signs of a running mean, which is corrected as Adam's is.
OPTIMIZER = '''

def signs(model, grads, how, rates):
    """The signs of a running mean."""
    for name, param in model.params.items():
        grad = rounded(grads[name], how.grad_grid)
        mean = how.beta1 * model.slots["mean"][name] + (1 - how.beta1) * grad
        {keep}
        corrected = mean / rates.m
        step = rounded(rates.lr * corrected / (abs(corrected) + how.epsilon), how.grid)
        {move}


OPTIMIZERS["signs"] = {wrap}(signs)
'''
KEEP = 'model.slots["mean"][name] = mean'
FORMS = {  # of each framework, where it is not NumPy's
    "torch": {"np": "torch", "wrap": "torch.no_grad()"},
    "tensorflow": {
        "np": "tf",
        "keep": 'model.slots["mean"][name].assign(mean)',
        "move": "param.assign_sub(step)",
    },
    "jax": {"np": "jnp", "move": "model.params[name] = param - step"},
}
DECLARED = "OPTIMIZERS = {  # the default first\n"
SIZES = {"num_hiddens": 12, "num_steps": 6, "batch_size": 4, "max_tokens": 400}
SMALL = options(text="long.txt", cell="mgu", optimizer="signs", **SIZES)


@pytest.fixture
def run(copy):
    """A function that runs commands in a copy of the project that has both."""
    signs = 'Optimizer(lr=0.01, slots=("mean",), needs_rates=True)'
    declared = DECLARED, f'{DECLARED}    "signs": {signs},\n'
    make(("CELLS = {\n", DECLARATION, *declared), copy / "rnn_scratch" / "contract.py")
    for folder in (copy / "backends").glob("*/"):
        form = {"np": "np", "wrap": "", "keep": KEEP, "move": "param -= step"}
        form |= FORMS.get(folder.name, {})
        more = {"cells.py": CELL.format(**form), "deep.py": OPTIMIZER.format(**form)}
        more["cells.py"] += BACKWARD if folder.name == "numpy" else ""
        for file, text in more.items():
            if (folder / file).exists():
                with open(folder / file, "a", encoding="utf-8") as source:
                    source.write(text)
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
    own = [row for row in json.loads(checked) if "mgu" in row["case"].split()]
    pieces = {row["piece"] for row in own if row["model"] == "scratch"}
    assert {"mgu", "step", "forward", "gradients", "train_epoch", "predict"} <= pieces
    assert {row["offered"] for row in own if row["model"] == "fast"} == {False}
    assert "signs" in pieces
    assert json.loads(exact)["equal"]


def test_they_are_compared(run, copy):
    compare = ("compare", "--backends", "numpy", "--models", "scratch,fast")
    run((*compare, "--epochs", 1, "--repeats", 1, "--output", "out", *SMALL))
    record = json.loads((copy / "out" / "comparison.json").read_text(encoding="utf-8"))
    scratch, fast = record["candidates"]
    assert "failures" not in scratch
    assert fast["failures"][0]["kind"] == "not offered"
