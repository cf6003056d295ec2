"""The form of the source of this project's backends; one of another package may look different.

That functions have the contract's signatures is verified by the check, in test_parity.
"""

import ast
import inspect
import itertools
from pathlib import Path

import numpy as np
import pytest

from rnn_scratch import registry
from rnn_scratch.contract import CELLS, MODULES, Batch, Options, Rates, Update
from rnn_scratch.parameters import initial

LESSONS = ("scratch", "cells", "deep")
# Of scratch.py, and of all three. NumPy's have more: it does not differentiate, and so each
# function of a network is followed by its backward pass.
LINES = {"numpy": (215, 375)}
CELL_NAMES = [cell.replace("-", "_") for cell in CELLS]
PASSES = {"step_back", "loss_back", "log_softmax", "backward", "through_time", "deep_backward"}
PASSES |= {"gates_back", "deep_step_back", *(f"{cell}_back" for cell in CELL_NAMES)}


def sources(backend):
    return Path(backend.__file__).parent


def functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_model_takes_arguments_by_name(backend, backend_name):
    scratch, tensor, array = backend.scratch, backend.machine.tensor, backend.machine.array
    options = Options(vocab_size=5, num_hiddens=7, dtype="float64")
    model = scratch.build(arrays=initial(options, 1.0, 0), options=options)
    tokens = tensor(np.arange(12).reshape(3, 4) % 5, "cpu")
    state = model.state(batch_size=3)
    logits, _ = model.forward(tokens=tokens, state=state)
    same, _ = scratch.forward(state=state, tokens=tokens, options=options, params=model.params)
    np.testing.assert_array_equal(array(logits), array(same))
    batch = Batch(X=tokens, Y=tokens, rates=Rates(lr=tensor(np.asarray(0.1), "cpu")))
    mean, _ = scratch.train_minibatch(model=model, batch=batch, state=state, how=Update())
    assert array(mean) > 0


@pytest.mark.parametrize("module", ["scratch", "cells", "deep", "machine", "workers"])
def test_functions_of_the_contract_are_documented_in_the_same_words(backend, own_name, module):
    # One says of which libraries it returns the versions.
    names = [f.__name__ for f in MODULES[module] if f.__name__ != "environment"]
    reference = getattr(registry.load("numpy"), module)
    for name in ["gate", *CELL_NAMES[1:]] if module == "cells" else names:
        expected = inspect.getdoc(getattr(reference, name))
        actual = inspect.getdoc(getattr(getattr(backend, module), name))
        assert actual == expected, name


def test_functions_come_in_the_contract_s_order(backend, own_name):
    scratch, cells, deep = ([*functions(sources(backend) / f"{name}.py")] for name in LESSONS)
    plain = [function.__name__ for function in MODULES["scratch"]]
    plain.insert(plain.index("step"), "rnn")
    expected = [plain, ["gate", *CELL_NAMES[1:]], [f.__name__ for f in MODULES["deep"]]]
    passes = PASSES if own_name == "numpy" else set()
    assert [[n for n in names if n not in passes] for names in (scratch, cells, deep)] == expected
    # And a backward pass stands below its function, or below another backward pass.
    for above, name in itertools.pairwise(scratch + cells + deep):
        if name in passes and name.endswith("_back"):
            assert above in (name.removesuffix("_back"), "gate"), name


def test_lessons_can_be_read_in_one_sitting(backend, own_name):
    lines = [
        (sources(backend) / f"{name}.py").read_text(encoding="utf-8").count("\n")
        for name in LESSONS
    ]
    most, of_all = LINES.get(own_name, (140, 250))
    assert lines[0] <= most
    assert sum(lines) <= of_all
