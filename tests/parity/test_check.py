"""`rnn-scratch check` at the command line."""

import json

import numpy as np
import pytest
from helpers import there

from rnn_scratch import registry
from rnn_scratch.check import epochs, functions, inputs, results, runner
from rnn_scratch.contract import VARIANTS


def test_every_result_of_the_reference_is_recorded():
    for chosen in (each for each in inputs.cases(cells=["rnn"]) if each.dtype == "float64"):
        case = inputs.make_case("numpy", registry.load("numpy"), "scratch", chosen)
        names = {
            f"{case.name_of(piece)}: {result.name}"
            for piece in runner.of_case(case)
            for result in piece(case)
            if isinstance(result, results.Computed) and result.expected is None
        }
        assert names == set(inputs.recorded()[case.label])


@pytest.mark.frameworks(by_default=("torch",))
def test_tokens_have_64_bits_on_windows_too(backend, backend_name, monkeypatch):
    """Where NumPy's own integers have 32, which PyTorch does not encode."""

    class RandomState(np.random.RandomState):
        def randint(self, low, high=None, size=None, dtype="int32"):
            return super().randint(low, high, size, dtype)

    def array(values, *dtype, array=np.array, **more):
        made = array(values, *dtype, **more)
        return made if dtype or made.dtype.kind != "i" else made.astype("int32")

    monkeypatch.setattr(np.random, "RandomState", RandomState)
    monkeypatch.setattr(np, "array", array)
    case = inputs.make_case(backend_name, backend, "scratch", inputs.PLAIN)
    for piece in (functions.encode, functions.loss, epochs.predict):
        assert all(row.passed for row in case.rows(piece))


def check(*arguments, **more):
    done = there("check", *arguments, "--json", **more)
    assert "Traceback" not in done.err
    return done.code, json.loads(done.out)


def test_all_variants_are_checked_by_default_and_some_cells_on_request():
    code, rows = check("numpy", "--cell", "lstm", "--cell", "rnn")
    assert code == 0
    cells = [row["case"].split()[1] for row in rows if row["piece"] == "forward" and row["offered"]]
    assert list(dict.fromkeys(cells)) == ["lstm", "rnn"]
    assert list(dict.fromkeys(row["model"] for row in rows)) == list(VARIANTS)
    assert {row["offered"] for row in rows if row["model"] == "concise"} == {True, False}
    assert all(row["offered"] for row in rows if row["model"] != "concise")
