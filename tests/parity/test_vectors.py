"""The test vectors: their file, their score, and the comparison of a program's answers."""

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers import CLONE, run_in_process

from rnn_scratch import registry
from rnn_scratch.check import answers, mistakes, results, score, vector_calls, vector_files, vectors
from rnn_scratch.exact import digest

FOLDER = CLONE / "notebooks" / "vectors"
PAGE = CLONE / "notebooks" / "site" / "vectors.md"
MAX_BYTES = 300_000
MIN_SCORE, MIN_NAMED = 0.97, 80


@pytest.fixture(scope="module")
def groups():
    return vectors.make()


@pytest.fixture(scope="module")
def small_groups():
    return vectors.make(training=False)


def to_json(groups, outputs=None):
    """Return an answers file's content, with the expected outputs or others."""
    places = {test.id: test.outputs for group in groups for test in group.tests}
    named = places if outputs is None else outputs
    return {
        place: {name: np.asarray(array).tolist() for name, array in arrays.items()}
        for place, arrays in named.items()
    }


def write_answers(content, path="answers.json"):
    Path(path).write_text(json.dumps({"answers": content}), encoding="utf-8")
    return path


def assert_equal(actual, expected, tolerance, place):
    """Compare JSON values: numbers within a tolerance, everything else exactly."""
    if isinstance(expected, dict):
        assert list(actual) == list(expected), place
        limit = max(tolerance, expected.get("tolerance", 0) or 0)
        for name, value in expected.items():
            is_limit = name == "tolerance"
            assert_equal(actual[name], value, 0.1 if is_limit else limit, f"{place} {name}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), place
        for index, value in enumerate(expected):
            assert_equal(actual[index], value, tolerance, f"{place} {index}")
    elif isinstance(expected, float):
        assert type(actual) is float, place
        assert abs(actual - expected) <= tolerance, place
    else:
        assert actual == expected, place


def test_file_is_up_to_date_and_small(groups):
    path = FOLDER / "vectors.json"
    assert path.stat().st_size <= MAX_BYTES
    stored = json.loads(path.read_text(encoding="utf-8"))
    written = json.loads(vector_files.write_json(groups, 0, "float64"))
    assert_equal(stored, written, 0, "run: rnn-scratch vectors notebooks/vectors/vectors.json")
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(stored, schema)
    assert stored["version"] == vectors.VERSION


def test_selected_tests_and_other_options_are_the_same_tests(small_groups):
    (group,) = vectors.make(["lstm"], ["gradients"], training=False)[1:2]
    full = next(other for other in small_groups if other.name == "lstm")
    (test,), (expected,) = group.tests, [t for t in full.tests if t.function == "gradients"]
    assert group.inputs.keys() == full.inputs.keys()
    assert answers.compare(full, expected, test.outputs) is None
    (other,) = vectors.make(["lstm"], ["gradients"], seed=1, dtype="float32")[1:2]
    assert other.inputs["W_xi"].dtype == np.float32
    assert answers.compare(full, expected, other.tests[0].outputs) is not None


def test_known_mistakes_are_detected(small_groups):
    scores = score.score(small_groups)
    detected, total = sum(s.detected for s in scores), sum(s.total for s in scores)
    assert detected >= MIN_SCORE * total
    summary, *lines = score.describe(scores)
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert summary.split(":")[0] in page
    for function in scores:
        assert f"| `{function.function}` | {function.detected} of {function.total} |" in page
    assert lines == []  # a mistake that is not detected needs a test, or a reason on the page


def test_unchanged_copy_of_the_reference_has_no_difference(small_groups, tmp_path):
    backend = mistakes.copy_backend(registry.load("numpy"), str(tmp_path))
    assert not any(score._differs(backend, group) for group in small_groups)


@pytest.mark.frameworks(by_default=("torch",))
def test_every_backend_answers_the_vectors(builtin_name, small_groups):
    backend = registry.load(builtin_name)
    for group in small_groups:
        for test in group.tests:
            problem = answers.compare(group, test, vector_calls.run(backend, group, test))
            assert problem is None, problem


def test_right_answers_pass_and_missing_ones_are_counted(groups, capsys):
    content = to_json(groups)
    path = write_answers(content)
    out = run_in_process(capsys, "check", path).assert_exit().out
    assert f"{len(content)} right, 0 different, 0 not implemented." in out
    path = write_answers({"lstm/cell": content["lstm/cell"]})
    out = run_in_process(capsys, "check", path).assert_exit().out
    assert "cell             right, in 1 test; 9 not implemented" in out
    assert "gradients        not implemented" in out
    assert "1 right, 0 different, 113 not implemented." in out


def test_text_form_has_the_same_numbers(groups, capsys):
    text = vector_files.write_text(groups, 0, "float64")
    lines = [line for line in text.splitlines() if " input " not in line]
    Path("answers.txt").write_text("\n".join(lines), encoding="utf-8")
    out = run_in_process(capsys, "check", "answers.txt").assert_exit().out
    assert "104 right, 0 different, 10 not implemented." in out


def test_training_ends_at_the_recorded_digests(groups):
    (group,) = [group for group in groups if group.name == vectors.TRAINING]
    stored = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))["groups"][-1]
    assert [test.digest for test in group.tests] == [test["digest"] for test in stored["tests"]]
    assert all(digest(test.outputs) == test.digest for test in group.tests)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_example_of_the_page_is_right(capsys, small_groups):
    (source,) = re.findall(r"```javascript\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert source.count("\n") <= 20
    text = vector_files.write_json(small_groups, 0, "float64")
    Path("vectors.json").write_text(text, encoding="utf-8")
    Path("lstm.mjs").write_text(source, encoding="utf-8")
    subprocess.run(["node", "lstm.mjs"], check=True)
    out = run_in_process(capsys, "check", "answers.json").assert_exit().out
    assert "cell             right, in 1 test; 9 not implemented" in out


def change(place, name, function):
    """Return a function that changes one output of the right answers."""

    def apply(content):
        content[place][name] = function(content[place][name])
        return json.dumps({"answers": content})

    return apply


def cut(content):
    text = json.dumps({"answers": content})
    return text[: len(text) // 2]


# Changes to right answers, with the exit code and part of the message.
CELL, LOSS = "lstm/cell", "common/loss"
BROKEN = {
    "half a file": (cut, 2, "is not JSON"),
    "an empty file": (lambda _: "", 2, "is not JSON: Expecting value, in line 1, column 1."),
    "no JSON": (lambda _: "h = [1, 2]", 2, "is not JSON"),
    "a list": (lambda _: "[1]", 2, "contains a list instead of an object"),
    "no answers": (lambda _: "{}", 2, "contains no answers"),
    "another version": (lambda c: json.dumps({"version": 2, "answers": c}), 2, "answers version 2"),
    "a text as seed": (lambda c: json.dumps({"seed": "a", "answers": c}), 2, "the seed must be an"),
    "a dtype": (lambda c: json.dumps({"dtype": 16, "answers": c}), 2, "dtype must be float64"),
    "an unknown test": (
        lambda c: json.dumps({"answers": {"lstm/cel": c[CELL]}}), 2, "Did you mean `lstm/cell`?",
    ),
    "no names": (
        lambda c: json.dumps({"answers": {CELL: [c[CELL]["h"]]}}), 2,
        "the answer to `lstm/cell` is a list.",
    ),
    "deep lists": (lambda _: '{"answers": ' + "[" * 10**5, 2, "not usable JSON"),
    "a wrong number": (change(LOSS, "loss", lambda _: 1), 1, "loss: loss is 1 instead of"),
    "a wrong element": (
        change(CELL, "c", lambda rows: [rows[0], [*rows[1][:3], 9]]), 1, "lstm/cell: c[1, 3] is 9",
    ),
    "a transposed array": (
        change(CELL, "h", lambda rows: [list(row) for row in zip(*rows)]), 1,
        "lstm/cell: h: shape (4, 2) instead of (2, 4)",
    ),
    "a flat array": (change(CELL, "h", lambda rows: rows[0] + rows[1]), 1, "shape (8,) instead of"),
    "uneven rows": (change(CELL, "h", lambda rows: [rows[0], [1]]), 1, "rows of different lengths"),
    "NaN": (change(LOSS, "loss", lambda _: float("nan")), 1, "loss: nan instead of"),
    "null": (change(LOSS, "loss", lambda _: None), 1, "loss: nan instead of"),
    "infinity": (change(LOSS, "loss", lambda _: float("inf")), 1, "loss: inf instead of"),
    "a string": (change(LOSS, "loss", lambda _: "1.5"), 1, "the text '1.5' instead of numbers"),
    "a flag": (change(LOSS, "loss", lambda _: True), 1, "true instead of numbers"),
    "an object": (change(LOSS, "loss", lambda _: {"value": 1}), 1, "an object instead of numbers"),
    "a huge integer": (change(LOSS, "loss", lambda _: 10**400), 1, "an integer that is too large"),
    "a missing output": (
        lambda c: json.dumps({"answers": {CELL: {"h": c[CELL]["h"]}}}), 1,
        "lstm/cell: c: the output is missing",
    ),
    "another output": (
        lambda c: json.dumps({"answers": {CELL: c[CELL] | {"g": 1}}}), 1, "they are h, c",
    ),
}  # fmt: skip
BROKEN_TEXT = {
    "half a line": ("common/loss output loss 2 2 2 1 2 3", "line 1: 3 values for 2x2"),
    "no number": ("common/loss output loss 0 one", "could not convert string to float: 'one'"),
    "no kind": ("common/loss loss 0 1.5", "write ID output NAME AXES SIZES VALUES"),
    "no size": ("common/loss output loss 1", "1 sizes must follow the number of axes"),
    "no axes": ("common/loss output loss", "write ID output NAME AXES SIZES VALUES"),
    "twice": ("common/loss output loss 0 1\n" * 2, "line 2: common/loss loss occurs twice"),
    "only comments": ("# nothing", "contains no answers"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers_are_explained(name, small_groups, capsys):
    make, code, message = BROKEN[name]
    Path("answers.json").write_text(make(to_json(small_groups)), encoding="utf-8")
    result = run_in_process(capsys, "check", "answers.json").assert_exit(code)
    assert message in " ".join((result.out + result.err).split())


@pytest.mark.parametrize("name", BROKEN_TEXT)
def test_broken_text_is_explained(name, capsys):
    text, message = BROKEN_TEXT[name]
    Path("answers.txt").write_text(text, encoding="utf-8")
    assert message in run_in_process(capsys, "check", "answers.txt").assert_exit(2).err


def test_answers_as_json(small_groups, capsys):
    content = to_json(small_groups)
    content[CELL]["c"] = 1
    path = write_answers({CELL: content[CELL], LOSS: content[LOSS]})
    rows = json.loads(run_in_process(capsys, "check", path, "--json").assert_exit(1).out)
    counts = {row["function"]: (row.get("right", 0), row.get("wrong", 0)) for row in rows}
    assert counts["cell"] == (0, 1)
    assert counts["loss"] == (1, 0)
    assert counts["train"] == (0, 0)


def test_answers_are_checked_alone(capsys):
    result = run_in_process(capsys, "check", "answers.json", "--cases", "3").assert_exit(2)
    assert "ANSWERS are checked alone." in result.err
    assert "does not exist" in run_in_process(capsys, "check", "no.json").assert_exit(2).err


@pytest.mark.mutations
def test_known_mistakes_are_named(small_groups, monkeypatch):
    monkeypatch.setattr(answers, "make", lambda **_: small_groups)
    named, equal = 0, 0
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for function, known in results.read_data("mistakes.json").items():
            for name, source in known.items():
                backend, outputs = mistakes.insert_mistake(function, tuple(source)), {}
                for group in small_groups:
                    for test in group.tests:
                        try:
                            outputs[test.id] = vector_calls.run(backend, group, test)
                        except Exception:
                            continue
                path = Path(write_answers(to_json(small_groups, outputs)))
                found = [verdict.mistake for verdict in answers.check_answers(path)]
                named += any(found)
                equal += name in found
    assert named >= equal >= MIN_NAMED, (named, equal)
