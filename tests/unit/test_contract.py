"""The source structure of the built-in backends, which other packages need not follow.

The check, which test_parity runs, compares function signatures with the contract.
"""

import ast
import importlib
import inspect
import itertools
from pathlib import Path

import pytest

from rnn_scratch import registry
from rnn_scratch.contract import CELLS, MODULES

LESSONS = ("scratch", "cells", "deep")
CELL_NAMES = [cell.replace("-", "_") for cell in CELLS]
NUMPY_ONLY = {"step_backward", "loss_backward", "log_softmax", "bptt"}
NUMPY_ONLY |= {"gates_backward", "deep_step_backward", *(f"{c}_backward" for c in CELL_NAMES)}


def sources(backend):
    return Path(backend.scratch.__file__).parent


def functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("module", ["scratch", "cells", "deep", "exact", "machine"])
def test_backends_have_equal_docstrings(backend, builtin_name, module):
    # Omit `versions`, whose docstring names libraries, and `jit`, which NumPy lacks.
    names = [f.__name__ for f in MODULES[module] if f.__name__ not in ("versions", "jit")]
    reference, candidate = (
        importlib.import_module(f"{package}.{module}")
        for package in (registry.load("numpy").package, backend.package)
    )
    for name in ["gate", *CELL_NAMES[1:]] if module == "cells" else names:
        expected = inspect.getdoc(getattr(reference, name))
        actual = inspect.getdoc(getattr(candidate, name))
        assert actual == expected, name


def test_functions_follow_the_contract_order(backend, builtin_name):
    scratch, cells, deep = ([*functions(sources(backend) / f"{name}.py")] for name in LESSONS)
    plain = [function.__name__ for function in MODULES["scratch"]]
    plain.insert(plain.index("step"), "rnn")
    expected = [plain, ["gate", *CELL_NAMES[1:]], [f.__name__ for f in MODULES["deep"]]]
    extra = NUMPY_ONLY if builtin_name == "numpy" else set()
    assert [[n for n in names if n not in extra] for names in (scratch, cells, deep)] == expected
    # Each backward function directly follows its forward function.
    for above, name in itertools.pairwise(scratch + cells + deep):
        if name in extra and name.endswith("_backward"):
            assert above in (name.removesuffix("_backward"), "gate"), name
