"""The command `rnn-scratch check`, and the random draws that it checks."""

import json

import numpy as np
import pytest
from backend_mutations import mutate_file
from helpers import run_subprocess

from rnn_scratch import registry
from rnn_scratch.check import draws, functions, results, runner, training
from rnn_scratch.contract import CELLS, OPTIMIZERS, VARIANTS, Options


def test_every_output_of_the_reference_is_recorded():
    for draw in draws.draw_all():
        case = draws.make_case("numpy", registry.load("numpy"), "scratch", draw)
        names = {
            f"{result.function or case.function_name(check)}: {result.name}"
            for check in runner.CHECKS["scratch"]
            for result in check(case)
            if result.expected is None
        }
        assert names == set(results.recorded_sums()[draw.label])


def test_sizes_cannot_hide_a_mistake():
    # The first draw's sizes all differ, and the other draws cover every special case.
    first, *rest = drawn = draws.draw_all()
    o = first.options
    assert len({o.vocab_size, o.num_hiddens, first.batch_size, first.num_steps}) == 4
    assert {draw.options.cell for draw in drawn} == set(CELLS)
    assert {draw.optimizer for draw in drawn} == set(OPTIMIZERS)
    assert {draw.carry for draw in drawn} == {True, False}
    conditions = {
        "B = 1": lambda d, o: d.batch_size == 1 < d.num_steps,
        "T = 1": lambda d, o: d.num_steps == 1 < d.batch_size,
        "B = T > 1": lambda d, o: d.batch_size == d.num_steps > 1,
        "V = H": lambda d, o: o.vocab_size == o.num_hiddens and not o.deep,
        "many updates": lambda d, o: d.num_updates > 128,
        "many steps": lambda d, o: d.num_steps == 70,
        "dropout in one layer": lambda d, o: o.dropout and o.num_layers == 1,
        "three layers": lambda d, o: o.dropout and o.embedding and o.num_layers == 3,
        "two states per layer": lambda d, o: o.num_states == 4 and o.dtype == "float64",
        "a large vocabulary": lambda d, o: o.vocab_size > 128,
        "large weights": lambda d, o: d.sigma > 10,
    }
    for name, condition in conditions.items():
        assert any(condition(draw, draw.options) for draw in rest), name


def test_a_draw_is_repeated_by_its_seed():
    assert draws.draw_all(range(3, 5)) == [draws.draw(3), draws.draw(4)]
    assert len({draws.draw(seed)._replace(seed=0) for seed in range(50)}) > 40


def test_finite_differences_equal_gradients_with_large_states():
    case = draws.make_case("numpy", registry.load("numpy"), "scratch", draws.draw(20788131))
    assert all(row.passed for row in case.run(functions.gradients))


@pytest.mark.frameworks(by_default=("torch",))
def test_tokens_have_64_bits_on_windows_too(backend, backend_name, monkeypatch):
    """Emulate NumPy 1's default integers on Windows, int32, which PyTorch cannot one-hot encode."""

    class RandomState(np.random.RandomState):
        def randint(self, low, high=None, size=None, dtype="int32"):
            return super().randint(low, high, size, dtype)

    def array(values, *dtype, array=np.array, **kwargs):
        result = array(values, *dtype, **kwargs)
        has_tokens = result.dtype.kind == "i" and result.ndim > 0  # excludes JAX's constants
        return result.astype("int32") if has_tokens and not dtype else result

    monkeypatch.setattr(np.random, "RandomState", RandomState)
    monkeypatch.setattr(np, "array", array)
    case = draws.make_case(backend_name, backend, "scratch", draws.Draw(Options(11, 13)))
    for check in (functions.encode, functions.loss, training.predict):
        assert all(row.passed for row in case.run(check))


def check(*arguments):
    command_result = run_subprocess("check", *arguments, "--json")
    assert "Traceback" not in command_result.err
    return command_result.code, json.loads(command_result.out)


def test_all_variants_are_checked_by_default_and_some_cells_on_request():
    code, rows = check("numpy", "--cell", "lstm", "--cell", "rnn")
    assert code == 0
    labels = [row["case"].split() for row in rows if row["function"] == "forward"]
    assert {label[1] for label in labels if len(label) > 1} == {"lstm", "rnn"}
    assert list(dict.fromkeys(row["model"] for row in rows)) == list(VARIANTS)
    assert {row["supported"] for row in rows if row["model"] == "concise"} == {True, False}
    assert all(row["supported"] for row in rows if row["model"] != "concise")


def test_a_failure_names_the_seed_of_its_draw(copy):
    change = '+ params["b_q"], state', '+ 2 * params["b_q"], state'
    mutate_file(change, copy / "backends" / "numpy" / "fast.py")
    command = ("check", "numpy", "--model", "fast", "--seed", "20", "--draws", "2")
    output = " ".join(run_subprocess(*command, cwd=copy).assert_exit(1).out.split())
    assert "look first at: forward in fast.py: logits" in output
    assert "seed 20: off by" in output
    assert "To repeat this draw, add: --seed 20 --draws 1" in output
