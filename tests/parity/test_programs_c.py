"""Programs in C, JavaScript and Rust, and the playground's scripts, answer the test vectors."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import CLONE, run_in_process

from rnn_scratch.check import vector_files, vectors
from rnn_scratch.play import page

PROGRAMS = CLONE / "notebooks" / "programs"
# Commands that compile a program and run it, and the form of the vectors that it reads.
COMMANDS = {
    "rnn.c": (
        ["cc", "-O3", "-Wall", "-Wextra", "-Werror", "-std=c99", "-o", "rnn", "rnn.c", "-lm"],
        [],
        "txt",
    ),
    "rnn.rs": (["rustc", "-O", "-D", "warnings", "rnn.rs"], [], "txt"),
    "rnn.mjs": ([], ["node", "rnn.mjs"], "json"),
}
# Changes to the programs, and part of the explanation.
WRONG = {
    ("rnn.c", "(1 - h[i] * h[i])", "(1 - h[i])"): "1 - h as the derivative, without the square",
    ("rnn.c", "sqrt(norm)", "norm"): "the norm without the square root",
    ("rnn.c", "0x1p-16", "0x1p-15"): "training/1: W_xh[",
    ("rnn.c", "next[i] = tanh(next[i])", "next[i] = fmax(next[i], 0)"): "ReLU instead of tanh",
    ("rnn.rs", "x * x).sum::<f64>().sqrt()", "x.abs()).sum::<f64>()"): (
        "the sum of absolute values instead of the norm"
    ),
    ("rnn.mjs", "map(Math.tanh)", "map((z) => z)"): "no activation in the step",
    ("rnn.mjs", "transpose(targets).flat()", "targets.flat()"): "targets not transposed",
}


@pytest.fixture(scope="module")
def groups():
    return vectors.make()


def answer(name, groups, source, options=(), dtype="float64"):
    """Compile a program with more options and run it; return the path of its answers."""
    compiler, command, form = COMMANDS[name]
    if shutil.which([*compiler, *command][0]) is None:
        pytest.skip(f"{[*compiler, *command][0]} is not installed")
    write = vector_files.write_json if form == "json" else vector_files.write_text
    Path(f"vectors.{form}").write_text(write(groups, 0, dtype), encoding="utf-8")
    Path(name).write_text(source, encoding="utf-8")
    if compiler:
        subprocess.run([*compiler, *options], check=True)
    program = command or [str(Path("rnn").absolute())]
    subprocess.run([*program, f"vectors.{form}", f"answers.{form}"], check=True)
    return f"answers.{form}"


@pytest.mark.parametrize("name", COMMANDS)
def test_program_is_right_and_ends_at_the_digest(name, groups, capsys):
    path = answer(name, groups, (PROGRAMS / name).read_text(encoding="utf-8"))
    out = run_in_process(capsys, "check", path).assert_exit().out
    for function, count in {"cell": 2, "gradients": 3, "clip": 3, "sgd": 1, "train": 10}.items():
        assert f"{function:<16} right, in {count} test" in out
    assert "26 right, 0 different, 88 not implemented." in out


def test_c_program_is_right_in_float32(capsys):
    source = (PROGRAMS / "rnn.c").read_text(encoding="utf-8")
    groups = vectors.make(dtype="float32")
    path = answer("rnn.c", groups, source, ["-DREAL=float"], "float32")
    assert "dtype float32\n" in Path(path).read_text(encoding="utf-8")
    out = run_in_process(capsys, "check", path).assert_exit().out
    assert "16 right, 0 different, 88 not implemented." in out


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change[1])
def test_mistake_in_a_program_is_explained(change, groups, capsys):
    name, old, new = change
    source = (PROGRAMS / name).read_text(encoding="utf-8")
    assert old in source
    tested = groups[:-1] if name == "rnn.mjs" else groups  # training takes seconds in JavaScript
    path = answer(name, tested, source.replace(old, new))
    assert WRONG[change] in run_in_process(capsys, "check", path).assert_exit(1).out


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_playground_computes_every_cell(groups, tmp_path, capsys):
    def check(folder):
        script = Path(__file__).with_name("play.mjs")
        subprocess.run(["node", script, folder, "vectors.json", "answers.json"], check=True)
        return run_in_process(capsys, "check", "answers.json")

    text = vector_files.write_json(groups[:-1], 0, "float64")
    Path("vectors.json").write_text(text, encoding="utf-8")
    out = check(page.FOLDER).assert_exit().out
    counts = {"encode": 2, "cell": 10, "step": 10, "forward": 10, "predict": 15}
    for function, count in counts.items():
        assert f"{function:<16} right, in {count} tests" in out
    copy = shutil.copytree(page.FOLDER, tmp_path / "play")
    source = (copy / "scratch.js").read_text(encoding="utf-8")
    changed = source.replace('[..."ifo"]', '[..."fio"]', 1)
    assert changed != source
    (copy / "scratch.js").write_text(changed, encoding="utf-8")
    assert "input gate and forget gate swapped" in check(copy).assert_exit(1).out


def test_recorded_trainings_end_at_the_digest_of_exact_mode():
    records = CLONE / "notebooks" / "records"
    programs, exact = (
        json.loads((records / f"{name}.json").read_bytes()) for name in ("programs", "exact")
    )
    ends = {
        (m["digests"][-1]["epoch"], m["digests"][-1]["digest"])
        for m in exact["models"]
        if m["digests"]
    }
    assert {(row["epochs"], row["digest"]) for row in programs["trainings"]} == ends
