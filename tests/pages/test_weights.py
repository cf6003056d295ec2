"""The weights page's code loads a run into each framework's layers, which give equal logits."""

import functools
import re

import numpy as np
import pytest
from helpers import CLONE, SMALL, require_tested

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import CELLS
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import start_model

PAGE = (CLONE / "notebooks" / "site" / "weights.md").read_text(encoding="utf-8")
FROM_RUN, FROM_FILE, COMMON, *CODES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CODES = dict(zip(("torch", "tensorflow", "jax"), CODES))
TABLE = {
    cell: row.split(" | ")
    for cell, row in re.findall(r"^\| `([\w-]+)` \| (`\w+` \|.*) \|$", PAGE, re.M)
}
CASES = [{}, {"num_layers": 2, "embedding": 5}]


def gates(column):
    """Return the gates in a table cell's last code span, or None if there is no layer."""
    return None if column == "–" else re.findall("`(.*?)`", column)[-1]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Return a cached function that trains a NumPy run, given a cell and an index into CASES."""

    @functools.cache
    def train(cell, index):
        settings = {"output": tmp_path_factory.mktemp("runs") / "r", "cell": cell, "sigma": 0.5}
        return rnn_scratch.train("numpy", num_epochs=1, **settings, **SMALL, **CASES[index])

    return train


@pytest.mark.parametrize("backend", CODES)
def test_layers_of_a_framework_have_equal_logits(backend_names, backend, train):
    require_tested(backend_names, backend)
    column = 1 + list(CODES).index(backend)
    offered = {cell: gates(row[column]) for cell, row in TABLE.items() if gates(row[column])}
    assert {"rnn", "gru-after", "lstm"} <= {*offered}
    for cell in offered:
        for index in range(len(CASES)):
            run = train(cell, index)
            file = FROM_FILE.replace('"checkpoint.', f'"{run.folder}/checkpoint.')
            names = {}
            exec(compile("\n".join([file, COMMON, CODES[backend]]), "weights.md", "exec"), names)
            runtime, vocab_size = Runtime("numpy"), len(run.arrays["b_q"])
            model = start_model(run.record.settings, runtime, vocab_size, run.arrays).model
            state = registry.load("numpy").scratch.init_state(1, model.options)
            tokens = np.array([names["tokens"]])
            expected, _ = model.forward(tokens, state, model.params, model.options)
            logits = names["logits"]
            logits = logits.detach().numpy() if backend == "torch" else np.array(logits)
            assert np.abs(expected).max() > 1
            np.testing.assert_allclose(logits, expected, rtol=0, atol=3e-6)
    assert {name: layer[1] for name, layer in names["LAYERS"].items()} == offered


def test_run_and_file_have_equal_arrays():
    run, file = {}, {}
    exec(FROM_RUN, run)
    exec(FROM_FILE.replace('"checkpoint.', f'"{run["run"].folder}/checkpoint.'), file)
    for name in ("vocab", "cell", "num_layers"):
        assert run[name] == file[name]
    assert {*run["arrays"]} == {*file["arrays"]}
    for name, array in run["arrays"].items():
        assert np.array_equal(array, file["arrays"][name])


def test_table_lists_the_gates_of_the_contract():
    assert {cell: gates(row[0]) for cell, row in TABLE.items()} == {
        name: "".join(cell.gates) for name, cell in CELLS.items()
    }
