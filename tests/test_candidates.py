"""`compare --candidates`: a framework twice in one table, in environments of their own."""

import json
import sys
from pathlib import Path

import pytest
from helpers import here, there

from rnn_scratch.cli import compare
from rnn_scratch.compare import comparison, pictures, summary
from rnn_scratch.compare.plan import Spec

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
    ("text", "spec"),
    [
        ("numpy", Spec("numpy")),
        ("numpy:fast", Spec("numpy", "fast")),
        ("numpy@new", Spec("numpy", "scratch", "new")),
        ("numpy@1.26-old:fast", Spec("numpy", "fast", "1.26-old")),
    ],
)
def test_a_candidate_is_a_backend_an_environment_and_a_variant(text, spec):
    assert compare._spec(text) == spec


def test_two_environments_of_a_backend_stand_in_one_table():
    python = f"--python=numpy@same={sys.executable}"
    names = "numpy,numpy:fast,numpy@same:fast,numpy:fast"
    done = there("compare", "--candidates", names, python, *SHORT, "--output", "out")
    assert done.code == 0, (done.out, done.err)
    record = comparison.read(Path("out"))
    assert [each.candidate for each in summary.speeds(record)] == [
        "numpy",
        "numpy fast",
        "numpy@same fast",
    ]
    assert record["plan"]["pythons"] == ["numpy@same"]  # a path is private
    assert sys.executable not in json.dumps(record["plan"])
    assert "numpy@same: numpy " in done.out
    colors = [pictures._color(Spec("numpy", "fast", at), record) for at in ("", "same")]
    assert colors[0] != colors[1]


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
