"""Every backend has the contract's functions, with the contract's signatures, and nothing leaks."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnn_scratch
from rnn_scratch import contract, initial, registry

PIECES = {piece.__name__: piece for piece in (*contract.PIECES, *contract.MACHINE)}
CORE = Path(rnn_scratch.__file__).parent
FRAMEWORKS = {"torch", "tensorflow", "keras", "mxnet", "jax"}


def names_and_kinds(function):
    # Backends are taught without annotations: names, order, kinds and defaults must be equal.
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


@pytest.mark.parametrize("piece", PIECES)
def test_signatures_are_those_of_the_contract(backend, piece):
    assert names_and_kinds(getattr(backend, piece)) == names_and_kinds(PIECES[piece])


@pytest.mark.parametrize("piece", PIECES)
def test_every_piece_is_documented(backend, piece):
    assert inspect.getdoc(getattr(backend, piece))


def sources(backend):
    return Path(backend.__file__).parent


def test_pieces_take_their_arguments_by_name(backend):
    options = contract.Options("tanh", "float64", "cpu")
    model = backend.scratch(initial.initial(5, 7, 1.0, 0), options)
    tokens = backend.tensor(np.arange(12).reshape(3, 4) % 5, "cpu")
    state = backend.state(batch_size=3, num_hiddens=7, options=options)
    given = {"tokens": tokens, "state": state, "params": model.params, "options": options}
    logits, _ = backend.forward(**given)
    same, _ = backend.forward(tokens, options=options, params=model.params, state=state)
    assert np.array_equal(backend.array(logits), backend.array(same))
    mean, _ = backend.train_minibatch(
        model=model, X=tokens, Y=tokens, state=state, how=contract.Update()
    )
    assert backend.array(mean) > 0


def test_pieces_come_in_the_contract_s_order_and_fit_in_one_sitting(backend):
    text = (sources(backend) / "scratch.py").read_text(encoding="utf-8")
    told = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    pieces = [piece.__name__ for piece in contract.PIECES if piece.__name__ != "concise"]
    assert [name for name in told if name in pieces] == pieces
    others = {name for name in told if not name.startswith("_")} - set(pieces)
    assert others <= {"backward"}, "a public function that the others don't have"
    assert text.count("\n") < 200


def test_docstrings_of_the_pieces_are_the_same_in_all_backends(backend):
    reference = registry.load("numpy")
    for piece in contract.PIECES:
        if piece.__name__ == "concise":
            continue
        found = inspect.getdoc(getattr(backend, piece.__name__))
        assert found == inspect.getdoc(getattr(reference, piece.__name__)), piece.__name__


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


def test_a_backend_imports_nothing_of_ours_but_the_contract(backend):
    for path in sources(backend).glob("*.py"):
        ours = {name for name in imports(path) if name.split(".")[0] == "rnn_scratch"}
        assert ours <= {"rnn_scratch.contract"}, path


def test_the_core_imports_no_framework():
    for path in CORE.glob("*.py"):
        found = {name.split(".")[0] for name in imports(path)}
        assert not found & FRAMEWORKS, path


@pytest.mark.parametrize(
    "program",
    ["import rnn_scratch", "from rnn_scratch.cli.main import main; main(['--help'])"],
    ids=["import", "--help"],
)
def test_no_framework_is_loaded_before_it_is_asked_for(program):
    watch = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print(sorted({FRAMEWORKS!r} & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch + program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
