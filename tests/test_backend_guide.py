"""The guide to writing a backend is followed step by step, and what it says is so."""

import itertools
import re
import shutil

import pytest
from backend_guide import blocks, files, follow, install, mistakes
from helpers import CLONE
from tools.sabotages import load

from rnn_scratch.check import functions
from rnn_scratch.check.inputs import PLAIN, in_each_dtype

CASES = in_each_dtype(PLAIN)
NUMBERS = itertools.count()


def shows(out, lines):
    """Whether an output has these lines, in this order; `...` stands for what is left out."""
    pattern = ".*".join(
        ".*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("..."))
        for line in lines
    )
    return re.search(pattern, out, re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with the complete package."""
    folder = tmp_path_factory.mktemp("site")
    return folder, files(folder)


@pytest.mark.student
def test_each_step_has_the_result_that_the_guide_shows(tmp_path):
    site = tmp_path / "site"
    env = install(site)
    (project,) = (block for block in blocks() if block.language == "toml")
    assert '[project.entry-points."rnn_scratch.backends"]\ntoy = "toy_rnn"' in project.text
    done = list(follow(site, env))
    for command, result in done:
        lacks = any(" lacks " in line for line in command.shown)
        assert result.code == lacks, (command, result.out, result.err)
        assert command.file or command.shown
        assert shows(result.out, command.shown), (command, result.out)
    assert {command.arguments[0] for command, _ in done} == {"check", "train", "show"}


@pytest.mark.parametrize(("right", "wrong", "named"), mistakes(), ids=lambda text: text[:30])
def test_a_mistake_that_the_guide_warns_of_is_named_as_it_says(
    package, tmp_path, right, wrong, named
):
    site, _ = package
    name = f"mistake_{next(NUMBERS)}"
    copy = tmp_path / name
    shutil.copytree(site / "toy_rnn", copy, ignore=shutil.ignore_patterns("__pycache__"))
    paths = [path for path in copy.glob("*.py") if right in path.read_text(encoding="utf-8")]
    assert [path.name for path in paths] in (["machine.py"], ["scratch.py"])
    source = paths[0].read_text(encoding="utf-8")
    assert source.count(right) == 1
    paths[0].write_text(source.replace(right, wrong), encoding="utf-8")
    rows = functions.check("toy", load(copy), cases=CASES, short=True)
    first = next((row for row in rows if not row.passed), None)
    assert first is not None, "not detected"
    assert f"{first.piece} {first.result}" == named, first


def test_without_a_mistake_none_is_named(package):
    site, _ = package
    rows = list(functions.check("toy", load(site / "toy_rnn"), cases=CASES, short=True))
    assert [row for row in rows if not row.passed] == []


def test_quoted_code_is_that_of_the_project():
    quoted = [block for block in blocks() if block.title.startswith("backends/")]
    assert quoted
    for block in quoted:
        assert block.text in (CLONE / block.title).read_text(encoding="utf-8")
