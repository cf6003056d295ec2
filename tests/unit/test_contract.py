"""Every backend has the contract's functions, with its signatures.

The form of the source is that of this project's backends: one of another package may look
different.
"""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.check.runner import signatures
from rnn_scratch.contract import CELLS, MODULES, OPTIMIZERS, VARIANTS, Batch, Options, Update
from rnn_scratch.parameters import initial

CORE = Path(rnn_scratch.__file__).parent
# NumPy's scratch.py has more lines because NumPy does not differentiate: it has the backward pass.
LINES = {"numpy": 330}
CELL_NAMES = {cell.replace("-", "_") for cell in CELLS}
BACKWARD = {"loss_back", "log_softmax", "backward", "step_back", "slope", "linear_back"}
BACKWARD |= {f"{cell}_back" for cell in CELL_NAMES}


def sources(backend):
    return Path(backend.__file__).parent


def functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("model", VARIANTS)
def test_signatures_are_those_of_the_contract(backend, backend_name, model):
    if not hasattr(backend, model):
        pytest.skip(f"{backend_name} has no {model} model")
    rows = list(signatures(backend, model))
    assert [row.where for row in rows if not row.passed] == []
    modules = ("scratch", "machine", "workers") if model == "scratch" else (model,)
    # The engine may be absent.
    assert len(rows) == sum(len(MODULES[name]) for name in modules if hasattr(backend, name))


def test_a_model_takes_arguments_by_name(backend, backend_name):
    scratch, tensor, array = backend.scratch, backend.machine.tensor, backend.machine.array
    options = Options(vocab_size=5, num_hiddens=7, dtype="float64")
    model = scratch.build(arrays=initial(options, 1.0, 0), options=options)
    tokens = tensor(np.arange(12).reshape(3, 4) % 5, "cpu")
    state = model.state(batch_size=3)
    logits, _ = model.forward(tokens=tokens, state=state)
    same, _ = scratch.forward(state=state, tokens=tokens, options=options, params=model.params)
    np.testing.assert_array_equal(array(logits), array(same))
    batch = Batch(X=tokens, Y=tokens)
    mean, _ = scratch.train_minibatch(model=model, batch=batch, state=state, how=Update())
    assert array(mean) > 0


@pytest.mark.parametrize("module", ["scratch", "machine", "workers"])
def test_functions_of_the_contract_are_documented_in_the_same_words(backend, own_name, module):
    # One says of which libraries it returns the versions.
    contract = [f.__name__ for f in MODULES[module] if f.__name__ != "environment"]
    reference = getattr(registry.load("numpy"), module)
    for name in contract:
        expected = inspect.getdoc(getattr(reference, name))
        actual = inspect.getdoc(getattr(getattr(backend, module), name))
        assert actual == expected, name


def test_functions_come_in_the_contract_s_order(backend, own_name):
    names = list(functions(sources(backend) / "scratch.py"))
    contract = [function.__name__ for function in MODULES["scratch"]]
    assert [name for name in names if name in contract] == contract
    helpers = {"activation", "gate", *CELL_NAMES} | (BACKWARD if own_name == "numpy" else set())
    assert set(names) - set(contract) == helpers | set(OPTIMIZERS)
    # And the helpers stand between `encode` and `step`, but for those of the backward pass.
    start, end = names.index("encode"), names.index("step")
    assert set(names[start + 1 : end]) - BACKWARD == helpers - BACKWARD
    # As do the optimizers before `update`.
    start, end = names.index("rounded"), names.index("update")
    assert names[start + 1 : end] == list(OPTIMIZERS)


def test_scratch_can_be_read_in_one_sitting(backend, own_name):
    text = (sources(backend) / "scratch.py").read_text(encoding="utf-8")
    assert text.count("\n") <= LINES.get(own_name, 230)


def test_no_function_ignores_an_argument(backend, own_name):
    for model in VARIANTS:
        if (own_name, model) == ("numpy", "concise"):
            continue  # it only says that there is none
        for name, function in functions(sources(backend) / f"{model}.py").items():
            used = {
                node.id
                for part in function.body
                for node in ast.walk(part)
                if isinstance(node, ast.Name)
            }
            unused = {argument.arg for argument in function.args.args} - used
            # The backward passes of all cells are called alike; some need not know the new state.
            alike = {"after"} if name.removesuffix("_back") in CELL_NAMES else set()
            # And so are all optimizers, of which the simplest needs nothing but the gradient.
            alike |= {"slots", "how", "rates"} if name in OPTIMIZERS else set()
            assert unused <= alike, f"{model}.{name} ignores {unused}"
