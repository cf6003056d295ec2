"""`compare --candidates`: a framework twice in one table, in environments of their own."""

import sys
from pathlib import Path

import pytest
from helpers import here, other_packages, there

from rnn_scratch.cli import compare
from rnn_scratch.compare import metrics, pictures
from rnn_scratch.compare.record import Candidate, read

SHORT = (
    "--corpus=tide-clock",
    "--num-hiddens=8",
    "--num-steps=5",
    "--batch-size=4",
    "--max-tokens=200",
    "--epochs=1",
    "--repeats=1",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy", Candidate("numpy")),
        ("numpy:fast", Candidate("numpy", "fast")),
        ("numpy@new", Candidate("numpy", "scratch", "new")),
        ("numpy@1.26-old:fast", Candidate("numpy", "fast", "1.26-old")),
    ],
)
def test_a_candidate_is_a_backend_an_environment_and_a_variant(text, expected):
    assert compare._candidate(text) == expected


def test_two_environments_of_a_backend_stand_in_one_table():
    python = f"--python=numpy@same={sys.executable}"
    names = "numpy,numpy:fast,numpy@same:fast,numpy:fast"
    done = there("compare", "--candidates", names, python, *SHORT, "--output", "out")
    assert done.code == 0, (done.out, done.err)
    record = read(Path("out"))
    assert [each.candidate for each in metrics.speeds(record)] == [
        "numpy",
        "numpy fast",
        "numpy@same fast",
    ]
    assert record.plan.pythons == ["numpy@same"]  # a path is private
    assert sys.executable not in Path("out/comparison.json").read_text(encoding="utf-8")
    assert "--python=numpy@same=PATH" in record.command
    assert "numpy@same: numpy " in done.out
    colors = [pictures._color(Candidate("numpy", "fast", at), record) for at in ("", "same")]
    assert colors[0] != colors[1]


def test_an_environment_can_be_named_once_for_all_backends(tmp_path):
    bare = tmp_path / "bare"  # an interpreter without the project
    python = ("--python", f"other={bare}", "--python", f"same={sys.executable}")
    names = "numpy@other,numpy@same,numpy@same:fast"
    done = there("compare", "--candidates", names, *python, *SHORT, "--output", "out")
    assert done.code == 1, (done.out, done.err)
    record = read(Path("out"))
    other, *same = record.candidates
    assert [each.name for each in same] == ["numpy@same", "numpy@same fast"]
    assert not any(each.failure for each in same)
    assert f"{bare} could not be started" in other.failure.reason
    assert "--python other=PATH --python same=PATH" in record.command


def test_the_order_of_candidates_does_not_matter_for_the_training_in_float64(tmp_path):
    source = (  # NumPy's under another name
        "from types import SimpleNamespace\n"
        "from rnn_scratch.backends.numpy import fast, machine as numpy, scratch\n"
        "machine = SimpleNamespace(**vars(numpy))\n"
        "machine.environment = lambda: {'other': '1.0'}\n"
    )
    env = other_packages(tmp_path / "more", {"other": source})
    names = ("other", "numpy:fast")
    for dtype in ("float32", "float64"):
        arguments = ("--candidates", ",".join(names), *SHORT, "--dtype", dtype)
        done = there("compare", *arguments, "--output", dtype, env=env)
        assert done.code == 0, (done.out, done.err)
        record = read(Path(dtype))
        assert [each.name for each in record.candidates] == ["other", "numpy fast"]
        for candidate in record.candidates:
            assert candidate.differences
            assert not candidate.trainings[0].epochs[0].losses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--candidates", "numpy@new"], ["environment of numpy@new", "--python numpy@new=PATH"]),
        (["--candidates", "numpy@"], ["environment's name"]),
        (["--candidates", "numpy:slow"], ["there is no slow", "scratch, fast, concise"]),
        (["--candidates", "numpi"], ["there is no numpi", "numpy"]),
        (["--candidates", ","], ["no name is in it"]),
        (["--candidates", "numpy", "--models", "fast"], ["--backends and --models"]),
        (["--candidates", "numpy", "--python", "numpy@x=p"], ["numpy@x, which is not compared"]),
    ],
)
def test_candidates_that_make_no_sense(arguments, words, capsys):
    here(capsys, "compare", *arguments, *SHORT).refused(*words)
