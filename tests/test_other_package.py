"""A backend of another package is an equal: the guide's, used by its name."""

import re
import textwrap
from pathlib import Path

import pytest
from backend_guide import blocks, files
from helpers import CLONE, SMALL, assert_same, in_one_process, options, parameters, there

from rnn_scratch.compare import record


@pytest.fixture
def toy(tmp_path):
    """Install the guide's backend; returns the environment that has it."""
    return files(tmp_path / "site")


def test_it_trains_resumes_and_predicts(toy):
    settings = options(**SMALL, backend="toy", dtype="float64")
    predict = ("predict", "r", "--prefix", "the ")
    first, _, _, prediction, reference = in_one_process(
        ("train", *settings, "--run", "whole", "--epochs", 3),
        ("train", *settings, "--run", "r", "--epochs", 2),
        ("train", "--resume", "r", "--epochs", 3),
        predict,
        (*predict, "--backend", "numpy"),
        env=toy,
    )
    assert "toy (scratch) on cpu" in first
    assert_same(parameters("r"), parameters("whole"))
    assert prediction == reference != ""


@pytest.mark.student
def test_a_mistake_in_it_is_named(toy, tmp_path):
    scratch = tmp_path / "site" / "toy_rnn" / "scratch.py"
    source = scratch.read_text()
    broken = source.replace('h @ params["W_hh"] +', 'h @ params["W_hh"].T +')
    assert broken != source
    scratch.write_text(broken)
    done = there("check", "toy", "--model", "scratch", env=toy)
    assert done.code == 1
    assert "look first at: step" in done.out


@pytest.mark.student
def test_it_is_compared(toy):
    (command,) = (block.text for block in blocks() if " compare " in block.text)
    assert "--backends numpy,toy --models scratch,fast" in command
    settings = options(**SMALL, num_epochs=1, repeats=1, output="out", models="scratch,fast")
    done = there("compare", "--backends", "numpy,toy", *settings, env=toy)
    assert done.code == 0, (done.out, done.err)
    measured = [each.name for each in record.read(Path("out")).candidates if each.finished]
    assert measured == ["numpy", "numpy fast", "toy", "toy fast"]


@pytest.mark.student
def test_the_pages_include_it_on_request(toy):
    program = """
    from make import site
    pages = site.pages(["numpy", "toy"], lambda formula, *more: formula)
    print(pages["chapter.md"].decode())
    """
    variables = {**toy, "PYTHONPATH": f"{toy['PYTHONPATH']}:{CLONE / 'notebooks'}"}
    done = there(program=("-c", textwrap.dedent(program)), env=variables, cwd=CLONE)
    assert done.code == 0, done.err
    assert "toy_rnn/scratch.py, line" in done.out
    assert "backends/torch" not in done.out


@pytest.mark.student
def test_the_test_suite_runs_on_it_alone(toy):
    (commands,) = (block.text for block in blocks() if "pytest --backends" in block.text)
    command = next(line for line in commands.splitlines() if line.startswith("pytest --backends"))
    paths = [
        CLONE / "tests" / f"test_{name}.py" for name in ("contract", "epoch", "threads_and_forks")
    ]
    done = there(
        *command.split()[1:], "-p", "no:cacheprovider", *paths, program=("-m", "pytest"), env=toy
    )
    assert done.code == 0, done.out
    assert re.search(r"\d+ passed", done.out)
