"""Follow the backend-writing guide step by step, and verify its claims.

The backend that the guide builds is a separate package. It needs MLX, which `nox -s mlx` installs.
"""

import re
import shlex
from typing import NamedTuple

import pytest
from backend_mutations import mutate_file as make
from helpers import (
    CLONE,
    SMALL,
    assert_same,
    in_one_process,
    install_packages,
    options,
    parameters,
    run_subprocess,
)
from measure.measuring import copy, load

from rnn_scratch.check import draws, runner

pytest.importorskip("mlx.core", reason="MLX is not installed")

TEXT = (CLONE / "notebooks" / "site" / "backend.md").read_text(encoding="utf-8")
# Rows of the guide's table: source text, its replacement, and the failure that `check` reports.
MISTAKES = re.findall(r"^\| `(.*?)` \| `(.*?)` \| (.*?) \|$", TEXT, re.MULTILINE)


class Block(NamedTuple):
    """A code block in the guide: its language, its title (the file it belongs to), and its text."""

    language: str
    title: str
    text: str


BLOCKS = [
    Block(*match)
    for match in re.findall(
        r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', TEXT, re.DOTALL | re.MULTILINE
    )
]


def commands(block):
    """Yield the arguments, output file and displayed lines of each command in a block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, *shown = part.splitlines()
        line, _, file = line.partition(" >> ")
        program, *arguments = shlex.split(line)
        assert program == "rnn-scratch"
        yield arguments, file, shown


def install(site):
    """Install a package without modules; return environment variables."""
    variables = install_packages(site, {"mlx": ""})
    return {**variables, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}


def write(site, title, text):
    """Append `text` to the package file `title`."""
    file = site / title
    previous = file.read_text() if file.exists() else ""
    file.write_text(previous + text + "\n\n", encoding="utf-8")


def follow(site, env, only_files=False):
    """Write the guide's files and run its commands; if `only_files`, skip those that write no file.

    For each command that runs, yield its arguments, the lines that the guide shows, and the result.
    """
    for block in BLOCKS:
        if block.language == "python" and block.title.startswith("mlx_rnn/"):
            write(site, block.title, block.text)
        elif block.language == "console":
            for arguments, file, shown in commands(block):
                if file or not only_files:
                    result = run_subprocess(*arguments, env=env)
                    if file:
                        write(site, file, result.assert_exit().out)
                    yield arguments, shown, result


def shows(out, lines):
    """Return a match if `out` contains `lines` in order, otherwise None; `...` matches any text."""
    pattern = ".*".join(
        ".*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("..."))
        for line in lines
    )
    return re.search(pattern, out, re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return the finished package's folder, and the environment variables for using it."""
    folder = tmp_path_factory.mktemp("site")
    env = install(folder)
    list(follow(folder, env, only_files=True))
    return folder, env


def test_guide_shows_the_actual_output(tmp_path):
    site = tmp_path / "site"
    env = install(site)
    (project,) = (block for block in BLOCKS if block.language == "toml")
    assert '[project.entry-points."rnn_scratch.backends"]\nmlx = "mlx_rnn"' in project.text
    steps = list(follow(site, env))
    for arguments, shown, result in steps:
        assert shows(result.assert_exit().out, shown), (arguments, result.out)
    assert {arguments[0] for arguments, *_ in steps} == {"check", "train"}


@pytest.mark.parametrize(
    ("line", "changed_line", "place"),
    [pytest.param("", "", None, id="none"), *MISTAKES],
    ids=lambda text: text[:30],
)
def test_check_names_the_mistakes_in_the_guide(package, tmp_path, line, changed_line, place):
    changed = copy(load(package[0] / "mlx_rnn"), tmp_path)
    if place:
        make((line, changed_line), changed / "primitives.py")
    rows = runner.check(load(changed), cases=map(draws.draw, range(draws.NUM_DRAWS)))
    first = next((f"{row.function} {row.output}" for row in rows if not row.passed), None)
    assert first == place


def test_guide_backend_trains_resumes_and_predicts(package):
    settings = options(**SMALL, backend="mlx", dtype="float64")
    predict = ("predict", "r", "--prefix", "the ")
    first, _, _, prediction, reference = in_one_process(
        ("train", *settings, "--output", "uninterrupted", "--epochs", 3),
        ("train", *settings, "--output", "r", "--epochs", 2),
        ("train", "--resume", "r", "--epochs", 3),
        predict,
        (*predict, "--backend", "numpy"),
        env=package[1],
    )
    assert "mlx (scratch) on cpu" in first
    assert_same(parameters("r"), parameters("uninterrupted"))
    assert prediction == reference != ""
