"""The guide to writing a backend is followed step by step, and what it says is so.

The backend that it makes is a package of its own, and an equal of ours.
"""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import (
    CLONE,
    SETTINGS,
    SMALL,
    TEST_FILES,
    assert_same,
    in_one_process,
    options,
    other_packages,
    parameters,
    require_tested,
    there,
)
from measure.measuring import copy, load
from sabotages import make

from rnn_scratch.check import runner
from rnn_scratch.check.inputs import PLAIN, in_each_dtype
from rnn_scratch.compare import record
from rnn_scratch.text import books

TEXT = (CLONE / "notebooks" / "site" / "backend.md").read_text(encoding="utf-8")
CASES = [*in_each_dtype(PLAIN), PLAIN._replace(dropout=0.4, num_layers=2, dtype="float64")]
# The rows of the guide's table: what is in a file, what takes its place, and what is named.
MISTAKES = re.findall(r"^\| `(.*?)` \| `(.*?)` \| (.*?) \|$", TEXT, re.MULTILINE)


class Block(NamedTuple):
    """A block of code: its language, the file that it belongs to, and its text."""

    language: str
    title: str
    text: str


BLOCKS = [
    Block(*found)
    for found in re.findall(
        r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', TEXT, re.DOTALL | re.MULTILINE
    )
]


def commands(block):
    """Commands of a console block: arguments, the file for its output, and what is shown."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, *shown = part.splitlines()
        line, _, file = line.partition(" >> ")
        program, *arguments = shlex.split(line)
        assert program == "rnn-scratch"
        yield arguments, file, shown


def install(site):
    """Install the package with nothing in it but the framework; the environment that has it."""
    variables = other_packages(site, {"toy": ""})
    (site / "toy_rnn" / "toy.py").write_text((CLONE / "tests" / "toy.py").read_text())
    return {**variables, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}


def write(site, title, text):
    """Write a file of the package; all but `__init__.py`, which is replaced, may come in parts."""
    file = site / title
    before = file.read_text() if file.name != "__init__.py" and file.exists() else ""
    file.write_text(before + text + "\n\n", encoding="utf-8")


def follow(site, env, only_files=False):
    """Write the files and run the commands, perhaps only those whose output is for a file.

    Yields each command and how it ended.
    """
    for block in BLOCKS:
        if block.language == "python" and block.title.startswith("toy_rnn/"):
            write(site, block.title, block.text)
        elif block.language == "console":
            for arguments, file, shown in commands(block):
                if file or not only_files:
                    done = there(*arguments, env=env)
                    if file:
                        write(site, file, done.ended().out)
                    yield arguments, shown, done


def shows(out, lines):
    """Whether an output has these lines, in this order; `...` stands for what is left out."""
    pattern = ".*".join(
        ".*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("..."))
        for line in lines
    )
    return re.search(pattern, out, re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with the complete package, and the environment in which it is installed."""
    folder = tmp_path_factory.mktemp("site")
    env = install(folder)
    list(follow(folder, env, only_files=True))
    return folder, env


@pytest.mark.student
def test_each_step_has_the_result_that_the_guide_shows(backend_names, tmp_path):
    require_tested(backend_names, "numpy")  # in one of the five sessions
    site = tmp_path / "site"
    env = install(site)
    (project,) = (block for block in BLOCKS if block.language == "toml")
    assert '[project.entry-points."rnn_scratch.backends"]\ntoy = "toy_rnn"' in project.text
    done = list(follow(site, env))
    for arguments, shown, result in done:
        result.ended(any(" lacks " in line for line in shown))
        assert shows(result.out, shown), (arguments, result.out)
    assert {arguments[0] for arguments, *_ in done} == {"check", "train", "show"}


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [pytest.param("", "", None, id="none"), *MISTAKES],
    ids=lambda text: text[:30],
)
def test_a_mistake_that_the_guide_warns_of_is_named_as_it_says(
    package, tmp_path, right, wrong, named
):
    changed = copy(load(package[0] / "toy_rnn"), tmp_path)
    if named:
        sources = [changed / f"{name}.py" for name in ("machine", "scratch", "deep")]
        (path,) = (path for path in sources if right in path.read_text(encoding="utf-8"))
        make((right, wrong), path)
    rows = runner.check("toy", load(changed), cases=CASES, short=True)
    first = next((f"{row.piece} {row.result}" for row in rows if not row.passed), None)
    assert first == named


def test_quoted_code_is_that_of_the_project():
    quoted = [block for block in BLOCKS if block.title.startswith("backends/")]
    assert quoted
    for block in quoted:
        assert block.text in (CLONE / block.title).read_text(encoding="utf-8")


def test_the_backend_trains_resumes_and_predicts(package):
    settings = options(**SMALL, backend="toy", dtype="float64")
    predict = ("predict", "r", "--prefix", "the ")
    first, _, _, prediction, reference = in_one_process(
        ("train", *settings, "--run", "whole", "--epochs", 3),
        ("train", *settings, "--run", "r", "--epochs", 2),
        ("train", "--resume", "r", "--epochs", 3),
        predict,
        (*predict, "--backend", "numpy"),
        env=package[1],
    )
    assert "toy (scratch) on cpu" in first
    assert_same(parameters("r"), parameters("whole"))
    assert prediction == reference != ""


def test_the_backend_is_a_program_of_one_file(package, tmp_path):
    there("standalone", "toy", env=package[1]).refused("toy cannot be cut from the toy backend")
    # But if its framework is a package as others are, and not a module of the backend:
    env = install(tmp_path / "site")
    (tmp_path / "site" / "toy_rnn" / "toy.py").rename(tmp_path / "toy.py")
    for file in (package[0] / "toy_rnn").glob("*.py"):
        text = file.read_text(encoding="utf-8").replace("from . import toy", "import toy")
        (tmp_path / "site" / "toy_rnn" / file.name).write_text(text, encoding="utf-8")
    env["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    settings = options(**SETTINGS, cell="lstm", optimizer="adam", layers=2, epochs=2)
    run = ("--backend", "toy", "--text", "book.txt", "--run", "r")
    Path("rnn.py").write_text(there("standalone", "toy", *settings, env=env).ended().out)
    Path("book.txt").write_text(books.load(books.BUILT_IN).content, encoding="utf-8")
    there("train", *settings, *run, env=env).ended()
    there("book.txt", program=("rnn.py",), env=env).ended(err="")
    saved = dict(np.load("book.npz"))
    del saved["vocabulary"]
    assert_same(saved, {name: array for name, array in parameters("r").items() if name in saved})


@pytest.mark.student
def test_the_backend_is_compared(backend_names, package):
    require_tested(backend_names, "numpy")
    (command,) = (block.text for block in BLOCKS if " compare " in block.text)
    assert "--backends numpy,toy --models scratch,fast" in command
    settings = options(**SMALL, num_epochs=1, repeats=1, output="out", models="scratch,fast")
    there("compare", "--backends", "numpy,toy", *settings, env=package[1]).ended()
    measured = [each.name for each in record.read(Path("out")).candidates if each.rounds]
    assert measured == ["numpy", "numpy fast", "toy", "toy fast"]


@pytest.mark.student
def test_the_test_suite_runs_on_the_backend_alone(backend_names, package):
    require_tested(backend_names, "numpy")
    (block,) = (block.text for block in BLOCKS if "pytest --backends" in block.text)
    command = next(line for line in block.splitlines() if line.startswith("pytest --backends"))
    names = ("contract", "epoch", "threads_and_forks")
    paths = [TEST_FILES[f"test_{name}"] for name in names]
    arguments = (*command.split()[1:], "-p", "no:cacheprovider", *paths)
    done = there(*arguments, program=("-m", "pytest"), env=package[1]).ended()
    assert re.search(r"\d+ passed", done.out)
