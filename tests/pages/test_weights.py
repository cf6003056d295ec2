"""The page on weights: its code gives layers of each framework the logits of a run."""

import re

import numpy as np
import pytest
from helpers import CLONE, SMALL, require_tested

import rnn_scratch
from rnn_scratch.contract import CELLS
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import set_up

PAGE = (CLONE / "notebooks" / "site" / "weights.md").read_text(encoding="utf-8")
FROM_RUN, FROM_FILE, COMMON, *CODES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CODES = dict(zip(("torch", "tensorflow", "jax"), CODES))
TABLE = {
    cell: row.split(" | ")
    for cell, row in re.findall(r"^\| `([\w-]+)` \| (`\w+` \|.*) \|$", PAGE, re.M)
}
CASES = [{}, {"num_layers": 2, "embedding": 5}]


def gates(words):
    """Return the gates in a table column, the last of its code; None if there is no layer."""
    return None if words == "–" else re.findall("`(.*?)`", words)[-1]


@pytest.mark.parametrize("backend", CODES)
def test_the_layers_of_a_framework_have_our_logits(backend_names, backend):
    require_tested(backend_names, backend)
    column = 1 + list(CODES).index(backend)
    offered = {cell: gates(row[column]) for cell, row in TABLE.items() if gates(row[column])}
    assert {"rnn", "gru-after", "lstm"} <= {*offered}
    for cell in offered:
        for number, settings in enumerate(CASES):
            folder = f"{cell}-{number}"
            run = rnn_scratch.train(
                "numpy", run=folder, cell=cell, sigma=0.5, num_epochs=1, **SMALL, **settings
            )
            file = FROM_FILE.replace('"checkpoint.', f'"{folder}/checkpoint.')
            names = {}
            exec(compile("\n".join([file, COMMON, CODES[backend]]), "weights.md", "exec"), names)
            model = set_up(run.record.settings, Runtime("numpy"), arrays=run.arrays).model
            expected, _ = model.forward(np.array([names["tokens"]]), model.state(1))
            logits = names["logits"]
            logits = logits.detach().numpy() if backend == "torch" else np.array(logits)
            assert np.abs(expected).max() > 1
            np.testing.assert_allclose(logits, expected, rtol=0, atol=3e-6)
    assert {name: each[1] for name, each in names["LAYERS"].items()} == offered


def test_the_run_and_its_file_have_the_same_arrays():
    run, file = {}, {}
    exec(FROM_RUN, run)
    exec(FROM_FILE.replace('"checkpoint.', f'"{run["run"].folder}/checkpoint.'), file)
    for name in ("vocab", "cell", "num_layers"):
        assert run[name] == file[name]
    assert {*run["arrays"]} == {*file["arrays"]}
    for name, array in run["arrays"].items():
        assert np.array_equal(array, file["arrays"][name])


def test_the_table_of_gates_has_those_of_the_contract():
    assert {cell: gates(row[0]) for cell, row in TABLE.items()} == {
        name: "".join(cell.gates) for name, cell in CELLS.items()
    }
