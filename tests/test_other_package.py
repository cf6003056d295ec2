"""A backend of another package is an equal: the guide's, used by its name."""

import json
import re
import textwrap
from pathlib import Path

import pytest
from backend_guide import blocks, files
from helpers import CLONE, SMALL, assert_same, options, parameters, there


@pytest.fixture
def toy(tmp_path):
    """Install the guide's backend; returns the environment that has it."""
    return files(tmp_path / "site")


@pytest.fixture
def scratch(toy, tmp_path):
    """The file with its model."""
    return tmp_path / "site" / "toy_rnn" / "scratch.py"


def test_it_trains_resumes_and_predicts(toy):
    settings = {**SMALL, "backend": "toy", "dtype": "float64"}
    for run, epochs in (("whole", 3), ("r", 2)):
        done = there("train", *options(**settings, num_epochs=epochs, run=run), env=toy)
        assert (done.code, done.err) == (0, "")
        assert "toy (scratch) on cpu" in done.out
    done = there("train", "--resume", "r", "--epochs", "3", env=toy)
    assert (done.code, done.err) == (0, "")
    assert_same(parameters("r"), parameters("whole"))
    prediction = there("predict", "r", "--prefix", "the ", env=toy)
    reference = there("predict", "r", "--prefix", "the ", "--backend", "numpy", env=toy)
    assert prediction.out == reference.out != ""


@pytest.mark.student
def test_it_is_checked(toy):
    done = there("check", "toy", env=toy)
    assert done.code == 0, (done.out, done.err)
    assert "toy, scratch:" in done.out


def test_it_has_only_the_variants_that_it_has(toy):
    for variant in ("fast", "concise"):
        done = there("check", "toy", "--model", variant, env={**toy, "COLUMNS": "200"})
        assert f"The toy backend has no {variant} model" in done.out
        refused = there("train", "--backend", "toy", "--model", variant, env=toy)
        refused.refused(f"The toy backend has no {variant} model", "--model scratch")


@pytest.mark.student
def test_a_mistake_in_it_is_named(toy, scratch):
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
    record = json.loads(Path("out/comparison.json").read_text(encoding="utf-8"))
    states = {(each["backend"], each["model"]): each["state"] for each in record["candidates"]}
    assert states == {
        ("numpy", "scratch"): "measured",
        ("numpy", "fast"): "measured",
        ("toy", "scratch"): "measured",
        ("toy", "fast"): "not offered",
    }


def test_its_source_is_shown(toy, scratch):
    done = there("show", "step", "--backends", "numpy,toy", env=toy)
    assert (done.code, done.err) == (0, "")
    assert f"# toy: {Path('site', 'toy_rnn', 'scratch.py')}:" in done.out
    assert re.search(r"def step\(.*?\n\n", scratch.read_text(), re.DOTALL)[0].strip() in done.out


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


def test_messages_have_its_registered_name(install, one_file):
    env = install("other", one_file)  # whose `environment` calls itself toy
    settings = options(**SMALL, num_epochs=1)
    done = there("train", "--backend", "other", *settings, "--device", "cuda", env=env)
    done.refused("--device is cuda", "the other backend computes float32 on: cpu")


OWN_ERROR = """
from rnn_scratch.contract import RNNScratchError

try:
    import framework
except ModuleNotFoundError as error:
    raise RNNScratchError(
        "The toy backend needs framework.\\nInstall it: pip install 'toy-rnn[framework]'"
    ) from error
"""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import a_module_that_nobody_has",
            ["The toy backend needs the Python module a_module_that_nobody_has"],
        ),
        (OWN_ERROR, ["The toy backend needs framework", "pip install 'toy-rnn[framework]'"]),
    ],
    ids=["the missing module", "an error of its own"],
)
def test_what_is_missing_is_named(install, source, words):
    done = there("train", "--backend", "toy", *options(**SMALL), env=install("toy", source))
    done.refused(*words)
    assert f"\nError: {words[0]}" in f"\n{done.err}"  # and nothing before it


@pytest.mark.student
def test_the_test_suite_runs_on_it_alone(toy):
    (commands,) = (block.text for block in blocks() if "pytest --backends" in block.text)
    command = next(line for line in commands.splitlines() if line.startswith("pytest --backends"))
    paths = [CLONE / "tests" / f"test_{name}.py" for name in ("contract", "gradients", "epoch")]
    done = there(
        *command.split()[1:], "-p", "no:cacheprovider", *paths, program=("-m", "pytest"), env=toy
    )
    assert done.code == 0, done.out
    assert re.search(r"\d+ passed", done.out)
