"""`compare --candidates`: a framework twice in one table, in environments of their own."""

import sys
from pathlib import Path

import pytest
from helpers import there

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


def test_environments_of_a_backend_stand_in_one_table(tmp_path):
    # One of them has a name for this backend, and the others have one for all backends.
    bare = tmp_path / "bare"  # an interpreter without the project
    paths = {"numpy@same": sys.executable, "shared": sys.executable, "bare": bare}
    pythons = [f"--python={name}={path}" for name, path in paths.items()]
    names = "numpy,numpy@same:fast,numpy@shared,numpy@bare,numpy@same:fast"
    done = there("compare", "--candidates", names, *pythons, *SHORT, "--output", "out")
    assert done.code == 1, (done.out, done.err)
    record = read(Path("out"))
    assert [each.candidate.name for each in metrics.speeds(record)] == [
        "numpy",
        "numpy@same fast",
        "numpy@shared",
    ]
    assert f"{bare} could not be started" in record.candidates[-1].failures[0].reason
    assert sys.executable not in Path("out/comparison.json").read_text(encoding="utf-8")
    assert "--python=numpy@same=PATH --python=shared=PATH" in record.command
    assert "numpy@same: numpy " in done.out
    colors = [pictures._color(Candidate("numpy", "fast", at), record) for at in ("", "same")]
    assert colors[0] != colors[1]
