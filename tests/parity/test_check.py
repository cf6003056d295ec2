"""Test the `rnn-scratch check` command and its random draws."""

import ast
import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from backend_mutations import mutate_file
from helpers import run_subprocess
from make import pinned

from rnn_scratch import registry
from rnn_scratch.check import draws, functions, results, runner, training
from rnn_scratch.check.case import make_case
from rnn_scratch.contract import CELLS, OPTIMIZERS, VARIANTS, ModelConfig


def test_every_output_of_the_reference_is_recorded():
    sums, recorded = pinned.reference_sums(), results.read_data("pinned.json")
    command = "run: python -m make.pinned"
    assert {label: [*outputs] for label, outputs in sums.items()} == {
        label: [*outputs] for label, outputs in recorded.items()
    }, command


def test_first_sizes_differ_and_the_draws_have_all_special_cases():
    first, *rest = map(draws.draw, range(draws.NUM_DRAWS))
    o = first.options
    assert len({o.vocab_size, o.num_hiddens, first.batch_size, first.num_steps}) == 4
    conditions = {
        "B = T > 1": lambda d, o: d.batch_size == d.num_steps > 1,
        "V = H": lambda d, o: o.vocab_size == o.num_hiddens and not o.needs_deep,
        "many updates, carried": lambda d, o: d.num_updates > 128 and d.carry and d.evaluates,
        "many steps": lambda d, o: d.num_steps == 70,
        "a large vocabulary in `predict`": lambda d, o: o.vocab_size > 256 and d.predicts,
        "large weights": lambda d, o: d.sigma > 10,
    }
    for name, condition in conditions.items():
        assert any(condition(draw, draw.options) for draw in rest), name
    large = draws.draw_large().options
    assert (large.cell, large.num_hiddens) == ("rnn", 512)


def test_draws_cover_all_pairs_of_properties():
    # Compute the properties from the draws themselves, not from the rows of `draws.TABLE`.
    properties = [
        {
            "cell": o.cell,
            "optimizer": draw.optimizer,
            "mode": (o.dtype, draw.exact),
            "layers": o.num_layers,
            "one step": draw.num_steps == 1,
            "one row": draw.batch_size == 1,
            "fewer tokens than V": draw.batch_size * draw.num_steps < o.vocab_size,
            "embedding": o.embedding > 0,
            "dropout": o.dropout > 0,
            "theta": draw.theta,
            "carry": draw.carry,
            "as many steps as layers": draw.num_steps == o.num_layers or None,
            "resumes": draw.resumes or None,
            "evaluates": draw.evaluates or None,
            "predicts": draw.predicts or None,
        }
        for draw in draws.draw_all(range(draws.NUM_DRAWS))
        if draw.num_updates
        for o in [draw.options]
    ]
    values = {name: {row[name] for row in properties} - {None} for name in properties[0]}
    assert values["cell"] == set(CELLS)
    assert values["optimizer"] == set(OPTIMIZERS)
    seen = {pair for row in properties for pair in itertools.combinations(row.items(), 2)}
    wanted = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(values, 2)
        for x, y in itertools.product(values[a], values[b])
    }
    impossible = {("one step", True), ("one row", True), ("fewer tokens than V", False)}
    assert not {pair for pair in wanted - seen if not {*pair} <= impossible}


def test_each_variant_meets_each_cell_in_several_layers_and_steps_and_with_dropout():
    drawn = draws.draw_all(range(draws.NUM_DRAWS))
    met = [
        {
            (variant, draw.options.cell)
            for draw in drawn
            for variant in draw.variants
            if condition(draw, draw.options)
        }
        for condition in (
            lambda d, o: o.num_layers > 1 and d.num_steps > 1 and o.embedding and o.dropout,
            lambda _, o: o.num_layers > 1 and not o.dropout,
            lambda d, o: d.num_steps > 1 and not o.needs_deep,
        )
    ]
    assert met == 3 * [{*itertools.product(VARIANTS, CELLS)}]


# Modules of the variants, and code in them that no case executes, with the reason.
VARIANT_MODULES = ("scratch", "cells", "deep", "exact", "fast", "gated", "products", "concise")
NOT_EXECUTED = {
    "raise RNNScratchError(": "refuses options that the variant does not support",
    "torch.ops.mkldnn": "oneDNN multiplies only large matrices on AMD processors",
    "linear": "oneDNN, as above",
    "return product": "oneDNN, as above",
}


def list_statements(path):
    """Yield the statements in all functions of a module, without definitions and docstrings."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in itertools.chain.from_iterable(map(ast.walk, function.body)):
                is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
                if isinstance(node, ast.stmt) and not is_docstring and not is_definition:
                    yield node
        elif isinstance(function, ast.Lambda):
            yield function.body


@pytest.mark.frameworks(by_default=("numpy",))
def test_every_line_that_computes_is_executed(backend, builtin_name, monkeypatch):
    monkeypatch.setenv("NPROC", "2")  # JAX divides large products among threads
    cases = [*draws.draw_all(range(draws.NUM_DRAWS)), *map(draws.draw_large, range(4))]
    folder = Path(sys.modules[backend.package].__file__).resolve().parent
    executed, tracer = set(), sys.gettrace()

    def trace(frame, _event, _argument):
        path = Path(frame.f_code.co_filename)
        executed.add((path, frame.f_lineno))
        return trace if path.parent == folder else None

    sys.settrace(trace)
    try:
        failed = [
            r for v in backend.variants for r in runner.check(backend, v, cases) if not r.passed
        ]
    finally:
        sys.settrace(tracer)
    assert not failed
    missing = [
        f"{name}.py, line {node.lineno}: {ast.unparse(node)}"
        for name in VARIANT_MODULES
        if (path := folder / f"{name}.py").exists()
        for node in list_statements(path)
        if (path, node.lineno) not in executed
    ]
    assert not [line for line in missing if not any(text in line for text in NOT_EXECUTED)]


def test_a_draw_is_repeated_by_its_seed():
    assert draws.draw(35) == draws.draw(35)
    assert len({draws.draw(seed)._replace(seed=0) for seed in range(50)}) > 40


def test_finite_differences_equal_gradients_with_large_states():
    numpy = registry.load("numpy")
    for seed in range(1000, 1000 + 3 * draws.NUM_DRAWS):
        case = make_case(numpy, "scratch", draws.draw(seed))
        assert all(row.passed for row in case.run(functions.gradients))


@pytest.mark.frameworks(by_default=("torch",))
def test_tokens_have_64_bits_on_windows_too(backend, backend_name, monkeypatch):
    """Emulate NumPy 1 on Windows, whose int32 tokens PyTorch cannot one-hot encode."""

    class RandomState(np.random.RandomState):
        def randint(self, low, high=None, size=None, dtype="int32"):
            return super().randint(low, high, size, dtype)

    def array(values, *dtype, array=np.array, **kwargs):
        result = array(values, *dtype, **kwargs)
        has_tokens = result.dtype.kind == "i" and result.ndim > 0  # excludes JAX's constants
        return result.astype("int32") if has_tokens and not dtype else result

    monkeypatch.setattr(np.random, "RandomState", RandomState)
    monkeypatch.setattr(np, "array", array)
    case = make_case(backend, "scratch", draws.CaseSpec(ModelConfig(11, 13)))
    for check in (functions.encode, functions.loss, training.predict):
        assert all(row.passed for row in case.run(check))


def check(*arguments):
    command_result = run_subprocess("check", *arguments, "--json")
    assert "Traceback" not in command_result.err
    return command_result.code, json.loads(command_result.out)


def test_all_variants_are_checked_by_default_and_one_cell_on_request():
    code, rows = check("numpy", "--cell", "lstm")
    assert code == 0
    labels = [row["case"].split() for row in rows if row["function"] == "forward"]
    assert {label[1] for label in labels if len(label) > 1} == {"lstm"}
    assert list(dict.fromkeys(row["variant"] for row in rows)) == list(VARIANTS)
    assert {row["supported"] for row in rows if row["variant"] == "concise"} == {False}
    assert all(row["supported"] for row in rows if row["variant"] != "concise")


def test_diagnosis_is_last_and_names_file_line_and_draw(copy):
    change = '+ params["b_q"], state', '+ 2 * params["b_q"], state'
    path = copy / "backends" / "numpy" / "fast.py"
    mutate_file(change, path)
    command = ("check", "numpy", "--seed", "27", "--cases", "3")
    lines = run_subprocess(*command, cwd=copy).assert_exit(1).out.splitlines()
    assert lines[-1].startswith("rnn-scratch check numpy --variant fast --seed 2")
    assert lines[-2] == "To repeat this case:"
    assert "logits" in lines[-4]
    found = re.fullmatch(
        r"Look first at `forward` \((.*), line (\d+)\), which differs .*:", lines[-5]
    )
    assert Path(found[1]).samefile(path)
    assert (
        path.read_text(encoding="utf-8").splitlines()[int(found[2]) - 1].startswith("def forward(")
    )
    output = "\n".join(lines)
    assert output.count("DIFFERS") == 2  # one failure with each thread count, 1 and 2
    assert "later failures may be consequences" in output
    assert "within the tolerance" not in output
    assert f"numpy, fast ({Path(found[1]).parent})" in output


def test_a_framework_that_is_missing_is_not_installed(copy):
    (copy / "torch.py").write_text("raise ModuleNotFoundError(name='torch')", encoding="utf-8")
    result = run_subprocess("check", "torch", cwd=copy, env={"PYTHONPATH": copy}).assert_exit(2)
    assert "DIFFERS" not in result.out
    assert re.search("^backend +not installed$", result.out, re.MULTILINE)
    assert "The torch backend needs PyTorch, which is not installed." in result.out


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("--lr", "2", "--sigma", "1"), ("These options require `--exact`: --lr, --sigma.",)),
        (("--exact", "--cases", "3"), ("`--cases` has no effect with `--exact`",)),
        (("--backend", "numpy"), ("`--backend` requires a file.",)),
        (("missing.py",), ("missing.py could not be read: No such file or directory.",)),
        (("mine.py", "--cases", "1"), ("A FILE is checked alone.", "use only `--backend`")),
    ],
)
def test_wrong_options_are_explained(arguments, messages):
    run_subprocess("check", *arguments).assert_error(*messages)


def test_seeds_start_again_after_the_largest():
    assert draws.draw(2**32) == draws.draw(0)
    assert draws.draw_large(2**32) == draws.draw_large(0)


@pytest.mark.parametrize("arguments", [("--variant", "concise"), ("--variant", "fast")])
def test_a_check_without_comparisons_fails(arguments):
    result = run_subprocess("check", "numpy", *arguments, "--cell", "gru").assert_exit(2)
    assert f"numpy, {arguments[1]}: nothing was compared." in result.out
    assert f"numpy: functions compared: {arguments[1]} 0\n" in result.out


@pytest.mark.parametrize(
    ("file", "change", "output"),
    [
        ("training/events.py", ("math.exp(loss)", "2.0**loss"), "perplexity"),
        (
            "training/loop.py",
            ("else perplexity(valid_loss)", "else perplexity(loss)"),
            "held-out perplexity",
        ),
        ("steps.py", ("grads, _ = scratch.clip(grads, update.theta)", ""), "sum of parameters"),
        ("training/schedule.py", ("math.cos(", "math.sin("), "sum of parameters"),
    ],
)
def test_a_mistake_that_all_backends_share_is_detected(copy, file, change, output):
    mutate_file(change, copy / "rnn_scratch" / file)
    program = "from rnn_scratch.check.runner import compare_trainings as compare"
    program += "\nprint({row.output for row in compare() if not row.passed})"
    result = run_subprocess(program=("-c", program), cwd=copy).assert_exit()
    assert f"'{output}'" in result.out


def test_other_backends_also_report_a_mistake_in_the_reference(copy):
    mutate_file(("d_h * (1 - next_h", "d_h * (2 - next_h"), copy / "backends/numpy/scratch.py")
    command = ("check", "torch", "--variant", "scratch", "--cell", "lstm", "--cases", "1")
    result = run_subprocess(*command, cwd=copy).assert_exit(1)
    assert "numpy, scratch" in result.out
    assert "Look first at `gradients`" in result.out
