"""`rnn-scratch check FILE` checks a user's functions and names known mistakes."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from helpers import CLONE, require_tested, run_in_process, run_subprocess

from rnn_scratch import registry
from rnn_scratch.check import mistakes, results
from rnn_scratch.contract import CELLS

RIGHT = {
    "numpy": """
import numpy as np


def clip(grads, theta):
    norm = np.sqrt(sum((array(g) ** 2).sum() for g in grads.values()))  # the backend's array
    return {name: g * min(1, theta / max(norm, 1e-300)) for name, g in grads.items()}, norm
""",
    "torch": """
import torch


def gate(x, h, name, params):
    return torch.sigmoid(x @ params["W_x" + name] + h @ params["W_h" + name] + params["b_" + name])


def lstm(x, state, params):
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")
    new = torch.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    c = f * c + i * new
    return o * torch.tanh(c), c
""",
}
# Changes to the sources above, with the expected exit code and part of the expected output.
WRONG = {
    "epsilon": ("numpy", "theta / max(norm, 1e-300)", "theta / (norm + 1e-6)", 1, "norm + 1e-6"),
    "in place": ("numpy", "return {", "grads['b_q'] *= 2\n    return {", 2, "`grads` in place."),
    "list": ("torch", "return o * torch.tanh(c), c", "return [h, c]", 1, "state as a tuple"),
    "called by a right function": (
        "numpy", "}, norm", "}, 1.0\n\n\ndef sgd(params, grads, slots, update):\n    for n, g in "
        "clip(grads, np.inf)[0].items():\n        params[n] -= update.lr * g\n"
        "    return params, slots",
        1, "sgd right, in",
    ),
    "signature": ("numpy", "clip(grads, theta)", "clip(grads)", 2, "(grads) instead of (grads, t"),
    "exception": ("numpy", "min(1, theta", "min(1, thet", 2, "'thet' is not defined in `return"),
    "no result": ("numpy", "return {", "result = {", 2, "It returns None: a `return` is"),
    "two norms": ("numpy", "}, norm", "}, norm, norm", 2, "result cannot be used: ValueError"),
    "three states": ("torch", "(c), c", "(c), c, c", 1, "a tuple of 3 instead of a tuple of 2"),
    "state": ("torch", "h, c = state", "c, h = state", 1, "h and c swapped in the argument"),
    "memory": ("torch", "f * c + i * new", "i * new", 1, "the old cell state left out"),
    "gradient": ("torch", "i * new", "i * new + c - c.detach()", 1, "wrong results in `gradients`"),
    "no gradient": ("torch", "i * new", "i.detach() * new", 1, "W_xi[4, 1] is 0 instead of"),
    "syntax": ("numpy", "def clip", "def", 2, "invalid syntax (mine.py, line 5)"),
    "import": ("numpy", "numpy as np", "nonexistent", 2, "mine.py raises ModuleNotFoundError"),
    "capital": ("numpy", "grads.items()}, n", "grads.items()}, 2 * n", 1, "norm"),
    "name": ("numpy", "def clip", "def clipped", 2, "like the project's: tensor, init_params, "),
}  # fmt: skip


def check(source, *arguments, run=run_subprocess):
    Path("mine.py").write_text(source, encoding="utf-8")
    return run("check", "mine.py", *arguments)


@pytest.mark.parametrize("backend", RIGHT)
def test_right_function_passes(backend_names, backend):
    require_tested(backend_names, backend)
    Path("sibling.py").touch()
    imports = f"from {backend} import clip  # not jax\nimport sibling"  # `clip` is not checked
    result = check(imports + RIGHT[backend]).assert_exit()
    assert f"compared in the {backend} backend" in result.out
    assert len(re.findall(r"(?m)^\w+ +right, in", result.out)) == 1
    assert "differs" not in result.out


@pytest.mark.usefixtures("_without_children")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_function_is_explained(backend_names, name, capsys):
    backend, old, new, code, message = WRONG[name]
    require_tested(backend_names, backend)
    assert old in RIGHT[backend]
    run = partial(run_in_process, capsys)
    result = check(RIGHT[backend].replace(old, new), run=run).assert_exit(code)
    assert message in " ".join((result.out + result.err).split())


def test_printed_lines_reproduce_the_arguments(backend_names):
    require_tested(backend_names, "torch")
    source = RIGHT["torch"].replace("o * torch.tanh(c), c", "o * c, c")
    lines = check(source).assert_exit(1).out.splitlines()
    program = "\n".join(lines[-2:]) + "\nprint(tuple(x.shape), len(state), sorted(params)[0])"
    result = run_subprocess(program=("-c", program)).assert_exit()
    assert result.out.split() == ["(3,", "5)", "2", "W_hc"]


NEW_TENSORS = """
import torch


@torch.no_grad()
def sgd(params, grads, slots, update):
    # The new tensors do not require a gradient.
    return {name: param - update.lr * grads[name] for name, param in params.items()}, slots
"""


def test_function_that_fails_only_in_training_is_refused(backend_names):
    require_tested(backend_names, "torch")
    assert "gives wrong results in `train_epoch`" in check(NEW_TENSORS).assert_exit(1).out


def test_json_contains_the_verdicts():
    (verdict,) = json.loads(check(RIGHT["numpy"], "--json").assert_exit().out)
    assert verdict["function"] == "clip"
    assert not {"failure", "problem"} & {*verdict}  # defaults are omitted
    assert verdict["num_comparisons"] > 30


NEW_CELL = """
import {module}
from rnn_scratch.contract import CELLS, Cell

CELLS["leaky"] = Cell(gates=("z", "h"))


def leaky(x, state, params):
    (h,) = state
    z = {z}
    return (z * h + (1 - z) * (x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"]),)
"""
GATE = 'torch.sigmoid(x @ params["W_xz"] + h @ params["W_hz"] + params["b_z"])'


@pytest.mark.usefixtures("_without_children")
@pytest.mark.parametrize(
    ("z", "code"), [(GATE, 0), (f"{GATE} + {GATE} - {GATE}.detach()", 1)], ids=["right", "wrong"]
)
def test_new_cell_is_compared_with_finite_differences(backend_names, z, code, capsys, monkeypatch):
    require_tested(backend_names, "torch")
    monkeypatch.setitem(CELLS, "leaky", None)  # set by the file, removed by monkeypatch
    result = check(NEW_CELL.format(module="torch", z=z), run=partial(run_in_process, capsys))
    assert ("by finite differences" in result.assert_exit(code).out) == bool(code)


def test_known_mistakes_match_the_reference(tmp_path):
    for function, changes in results.read_data("mistakes.json").items():
        for number, change in enumerate(changes.values()):
            folder = tmp_path / f"{function}{number}"
            folder.mkdir()
            numpy = registry.load("numpy")
            mistakes.copy_backend(numpy, str(folder), function, change)  # raises if nothing matches


ENDS = {
    "exit": ("exit(3)", "It raises SystemExit: 3 in `print('last'); exit(3)"),
    "_exit": ("__import__('os')._exit(3)", "It ends the process (exit code 3)."),
    "loop": ("[... for _ in iter(int, 1) if _]", "It does not return within 30 s."),
}


@pytest.mark.parametrize("name", ENDS)
def test_function_that_does_not_return_is_named(name):
    call, message = ENDS[name]
    source = RIGHT["numpy"].replace("norm = ", f"print('last'); {call}; norm = ")
    source = f"import rnn_scratch.check.source_file as u; u.CALL_SECONDS = 0.5{source}"
    out = check(source).assert_exit(2).out
    assert "`clip` (mine.py, line 5) cannot be checked. " + message in out


def test_encoding_of_a_file(capsys):
    run = partial(run_in_process, capsys, "check", "mine.py")
    Path("mine.py").write_text("x = 1\ny = 2", encoding="utf-8-sig")
    run().assert_error("mine.py defines no function that can be checked.")
    Path("mine.py").write_bytes(b"x = 1\ny = '\xff'")
    run().assert_error("mine.py is not UTF-8: invalid start byte in line 2.\nOpen it")


# The code behind the output in the README.
SWAPPED = """import numpy as np
def lstm(x, state, params):
    h, c = state
    z = {g: x @ params[f"W_x{g}"] + h @ params[f"W_h{g}"] + params[f"b_{g}"] for g in "ifoc"}
    f, i, o = (1 / (1 + np.exp(-z[g])) for g in "ifo")
    c = f * c + i * np.tanh(z["c"])
    return o * np.tanh(c), c
"""


def test_readme_shows_what_check_prints(capsys):
    Path("mine.py").write_text(SWAPPED, encoding="utf-8")
    out = run_in_process(capsys, "check", "mine.py").assert_exit(1).out
    blocks = re.findall(r"```text\n(.*?)```", (CLONE / "README.md").read_text("utf-8"), re.DOTALL)
    assert any(block in out for block in blocks if "DIFFERS" in block)
