"""`rnn-scratch check` at the command line."""

import json

from helpers import there

from rnn_scratch import registry
from rnn_scratch.check import inputs, results, runner
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
