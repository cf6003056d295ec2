"""Undoing an optimization of `fast` leaves its numbers; the gain in its comment is recorded."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tools import optimizations

from rnn_scratch import initial
from rnn_scratch.contract import Options

RECORD = Path(__file__).parent.parent / "notebooks" / "records" / "optimizations.json"
OURS = {"num_hiddens": 13, "num_steps": 5, "batch_size": 4, "vocabulary": 11}


def cases(backend_name):
    if backend_name not in optimizations.CASES:
        pytest.skip(f"{backend_name} is a backend of another package")
    return optimizations.CASES[backend_name]


def gradients(backend, num_hiddens, vocabulary, num_steps, batch_size):
    """Loss and gradients of `fast`, in float64."""
    arrays = initial.initial(vocabulary, num_hiddens, 0.3, 0)
    model = backend.fast.build(arrays, Options(num_hiddens, dtype="float64"))
    tokens = np.random.RandomState(0).randint(0, vocabulary, (batch_size, num_steps + 1))
    X, Y = (backend.machine.tensor(part.copy(), "cpu") for part in (tokens[:, :-1], tokens[:, 1:]))
    loss, grads, _ = backend.scratch.gradients(model, X, Y, model.state(batch_size))
    return {"loss": backend.machine.array(loss), **model.to_arrays(grads)}


@pytest.mark.parametrize("vocabulary", [11, 150])
def test_without_any_of_them_the_gradients_are_the_same(
    backend, backend_name, vocabulary, tmp_path
):
    sizes = {**OURS, "vocabulary": vocabulary}
    own = cases(backend_name)
    expected = gradients(backend, **sizes)
    for case in own:
        results = gradients(optimizations.undone(backend, case, tmp_path), **sizes)
        for name, result in results.items():
            np.testing.assert_allclose(
                result, expected[name], rtol=0, atol=1e-14, err_msg=f"{case.name}: {name}"
            )


def test_record_code_and_script_have_the_same_names_and_gains(backend, backend_name):
    names = [case.name for case in cases(backend_name)]
    rows = json.loads(RECORD.read_text(encoding="utf-8"))["backends"][backend_name]
    assert [row["name"] for row in rows] == names
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in Path(backend.__file__).parent.glob("*.py")
    )
    for row in rows:
        # The comment with the name, and its last line.
        comment = re.search(rf"# {row['name']}: .*\n(?: *# .*\n)*", code)
        assert comment, row["name"]
        assert comment.group().rstrip().endswith(optimizations.comment(row)), row["name"]
    assert code.count("# Gain") == len(rows)


def test_a_gain_goes_below_its_comment_and_replaces_the_old_one(tmp_path):
    file = tmp_path / "fast.py"
    file.write_text(
        "    # Bias in the table: it is\n    # added once.\n    # Gain: 9.00, 9.00.\n    x\n"
    )
    row = {
        "name": "Bias in the table",
        "num_hiddens": {"64": 1.234, "512": 1.0},
        "what": "training",
        "threads": 1,
        "vocabulary": optimizations.V,
    }
    optimizations.annotate(tmp_path, [row])
    expected = "    # Bias in the table: it is\n    # added once.\n    # Gain: 1.23, 1.00.\n    x\n"
    assert file.read_text() == expected
