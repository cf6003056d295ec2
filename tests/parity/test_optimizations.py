"""Undoing an optimization of `fast` leaves its numbers; the gain in its comment is recorded."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import RECORDS
from make.optimizations import names as names_in_code
from make.optimizations import read
from measure import optimizations

from rnn_scratch import parameters
from rnn_scratch.contract import Batch, Options

OURS = {"num_hiddens": 13, "num_steps": 5, "batch_size": 4, "vocabulary": 11}


def gradients(backend, cell, num_hiddens, vocabulary, num_steps, batch_size):
    """Loss and gradients of `fast`, in float64."""
    options = Options(vocabulary, num_hiddens, cell, dtype="float64")
    model = backend.fast.build(parameters.initial(options, 0.3, 0), options)
    tokens = np.random.RandomState(0).randint(0, vocabulary, (batch_size, num_steps + 1), "int64")
    batch = Batch(tokens[:, :-1].copy(), tokens[:, 1:].copy()).map(backend.machine.tensor, "cpu")
    loss, grads, _ = backend.scratch.gradients(model, batch, model.state(batch_size))
    return {"loss": backend.machine.array(loss), **model.to_arrays(grads)}


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize("vocabulary", [11, 150])
def test_without_any_of_them_the_gradients_are_the_same(backend, own_name, vocabulary, tmp_path):
    sizes = {**OURS, "vocabulary": vocabulary}
    own = optimizations.cases(own_name)
    expected = {cell: gradients(backend, cell, **sizes) for cell in {case.cell for case in own}}
    for case in own:
        results = gradients(optimizations.undone(backend, case, tmp_path), case.cell, **sizes)
        for name, result in results.items():
            where = f"{case.name}: {name}"
            np.testing.assert_allclose(
                result, expected[case.cell][name], rtol=0, atol=1e-14, err_msg=where
            )


def test_record_code_and_script_have_the_same_names_and_gains(backend, own_name):
    names = [case.name for case in optimizations.cases(own_name)]
    gains = read(RECORDS / "optimizations.json").backends[own_name]
    assert [each.name for each in gains] == names
    assert sorted(names_in_code(own_name)) == sorted(names)
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in Path(backend.__file__).parent.glob("*.py")
    )
    number = 0
    for each in gains:
        # The comments with the name, and their last lines.
        comments = re.findall(rf"(?m)^ *# {each.name}: .*\n(?: *# .*\n)*", code)
        assert comments, each.name
        for comment in comments:
            assert comment.rstrip().endswith(optimizations.comment(each)), each.name
        number += len(comments)
    assert code.count("# Gain") == number
