"""The form of the source of the built-in backends; other packages may look different.

The check, run by test_parity, compares the functions' signatures with the contract.
"""

import ast
import inspect
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from rnn_scratch import registry
from rnn_scratch.contract import CELLS, MODULES, Batch, Options, Update
from rnn_scratch.parameters import initial

LESSONS = ("scratch", "cells", "deep")
# Maximum lines of scratch.py, and of the three lessons together. NumPy does not differentiate, so
# it also has backward passes.
MAX_LINES = {"numpy": (190, 365)}
CELL_NAMES = [cell.replace("-", "_") for cell in CELLS]
NUMPY_ONLY = {"step_backward", "loss_backward", "log_softmax", "backward", "bptt", "deep_backward"}
NUMPY_ONLY |= {"gates_backward", "deep_step_backward", *(f"{c}_backward" for c in CELL_NAMES)}


def sources(backend):
    return Path(backend.__file__).parent


def functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_model_takes_arguments_by_name(backend, backend_name):
    scratch, tensor, array = backend.scratch, backend.machine.tensor, backend.machine.array
    options = Options(vocab_size=5, num_hiddens=7, dtype="float64")
    model = scratch.build(arrays=initial(options, 1.0, 0), options=options)
    tokens = tensor(np.arange(12).reshape(3, 4) % 5, "cpu")
    state = model.state(batch_size=3)
    logits, _ = model.forward(tokens=tokens, state=state)
    expected, _ = scratch.forward(state=state, tokens=tokens, options=options, params=model.params)
    np.testing.assert_array_equal(array(logits), array(expected))
    batch = Batch(X=tokens, Y=tokens)
    loss, _ = scratch.train_minibatch(model=model, batch=batch, state=state, update=Update(lr=0.1))
    assert array(loss) > 0


@pytest.mark.parametrize("module", ["scratch", "cells", "deep", "exact", "machine", "workers"])
def test_backends_have_equal_docstrings(backend, builtin_name, module):
    # The docstring of `environment` names libraries.
    names = [f.__name__ for f in MODULES[module] if f.__name__ != "environment"]
    reference = getattr(registry.load("numpy"), module)
    for name in ["gate", *CELL_NAMES[1:]] if module == "cells" else names:
        expected = inspect.getdoc(getattr(reference, name))
        actual = inspect.getdoc(getattr(getattr(backend, module), name))
        assert actual == expected, name


def test_functions_follow_the_contract_s_order(backend, builtin_name):
    scratch, cells, deep = ([*functions(sources(backend) / f"{name}.py")] for name in LESSONS)
    plain = [function.__name__ for function in MODULES["scratch"]]
    plain.insert(plain.index("step"), "rnn")
    expected = [plain, ["gate", *CELL_NAMES[1:]], [f.__name__ for f in MODULES["deep"]]]
    extra = NUMPY_ONLY if builtin_name == "numpy" else set()
    assert [[n for n in names if n not in extra] for names in (scratch, cells, deep)] == expected
    # A backward pass follows its function.
    for above, name in itertools.pairwise(scratch + cells + deep):
        if name in extra - {"deep_backward"} and name.endswith("_backward"):
            assert above in (name.removesuffix("_backward"), "gate"), name


def test_lessons_stay_short(backend, builtin_name):
    lines = [
        (sources(backend) / f"{name}.py").read_text(encoding="utf-8").count("\n")
        for name in LESSONS
    ]
    scratch_lines, all_lines = MAX_LINES.get(builtin_name, (145, 245))
    assert lines[0] <= scratch_lines
    assert sum(lines) <= all_lines


def test_first_lesson_omits_later_words(backend, builtin_name):
    source = (sources(backend) / "scratch.py").read_text(encoding="utf-8").lower()
    words = ("exact", "grid", "worker", "mask", "dropout", "slot", "layer", "embedding")
    assert [word for word in words if re.search(rf"\b{word}", source)] == []
