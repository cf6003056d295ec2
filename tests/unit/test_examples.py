"""Run the examples in docstrings and check their output."""

import doctest
import importlib
import io
from contextlib import redirect_stdout


def run_examples(module):
    output = io.StringIO()
    with redirect_stdout(output):
        results = doctest.testmod(module)
    assert results.attempted, f"{module.__name__} has no examples"
    assert not results.failed, output.getvalue()


def test_example_runs_every_cell(builtin_name):
    run_examples(importlib.import_module(f"rnn_scratch.backends.{builtin_name}.cells"))
