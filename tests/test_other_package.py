"""A backend of another package is an equal: the one that the guide writes, used by its name."""

import json
import re
import textwrap
from pathlib import Path

import pytest
from helpers import CLONE, SMALL, assert_same, options, other_packages, parameters, there

GUIDE = (CLONE / "notebooks" / "site" / "backend.md").read_text(encoding="utf-8")
STEPS = re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]


def blocks(kind, text=GUIDE):
    """The title and content of each code block of a kind."""
    pattern = rf'^```{kind}(?: title="(.*?)")?\n(.*?)^```'
    return re.findall(pattern, text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def install(tmp_path):
    """Install a one-file package with a backend; returns the environment that has it."""

    def write(name, source):
        site = tmp_path / "site"
        variables = other_packages(site, {name: source})
        (site / f"{name}_rnn" / "__init__.py").rename(site / f"{name}_rnn.py")
        (site / f"{name}_rnn").rmdir()
        return {**variables, "OMP_NUM_THREADS": "1"}

    return write


def one_file():
    """The guide's backend as a single file, made as the guide says."""
    parts = [text for title, text in blocks("python") if not title.endswith("__init__.py")]
    (two_lines,) = (text for _, text in blocks("text") if "sys.modules" in text)
    return "\n\n".join([*parts, two_lines]).replace("from .machine import array, tensor\n", "")


@pytest.fixture
def plain(install):
    return install("plain", one_file())


def test_the_guide_writes_a_backend_step_by_step(tmp_path):
    """The files of each step are written and its commands run."""
    site = tmp_path / "site"
    env = {**other_packages(site, {"plain": ""}), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    ((_, project),) = blocks("toml")
    assert '[project.entry-points."rnn_scratch.backends"]\nplain = "plain_rnn"' in project
    done = []
    for step in STEPS:
        for title, source in blocks("python", step):
            file = site / title
            before = file.read_text() if title.endswith("scratch.py") and file.exists() else ""
            file.write_text(f"{before}\n\n{source}" if before else source, encoding="utf-8")
        lines = "".join(commands for _, commands in blocks("bash", step)).splitlines()
        # After a step without commands, what is still missing is the most interesting.
        for line in lines or ["rnn-scratch check plain --model scratch"]:
            program, *arguments = line.split()
            assert program == "rnn-scratch"
            done.append(there(*arguments, env=env))
    first, second, third, fourth, *rest = done
    for each, present, missing in (
        (first, [], ["scratch.params", "scratch.step", "machine.devices"]),
        (second, ["machine.devices"], ["scratch.params", "scratch.step"]),
        (third, ["machine.devices", "scratch.step"], ["scratch.gradients"]),
    ):
        assert each.code == 1
        assert all(name in each.out for name in ["lacks", *missing])
        assert not any(name in each.out for name in present)
    for each in (fourth, *rest):
        assert each.code == 0, (each.out, each.err)
    assert len(rest) == 5


def test_it_trains_resumes_and_predicts(plain):
    settings = {**SMALL, "backend": "plain", "dtype": "float64"}
    for run, epochs in (("whole", 3), ("r", 2)):
        done = there("train", *options(**settings, num_epochs=epochs, run=run), env=plain)
        assert (done.code, done.err) == (0, "")
        assert "plain (scratch) on cpu" in done.out
    done = there("train", "--resume", "r", "--epochs", "3", env=plain)
    assert (done.code, done.err) == (0, "")
    assert_same(parameters("r"), parameters("whole"))
    prediction = there("predict", "r", "--prefix", "the ", env=plain)
    reference = there("predict", "r", "--prefix", "the ", "--backend", "numpy", env=plain)
    assert prediction.out == reference.out != ""


def test_it_is_checked_and_has_only_the_variants_that_it_has(plain):
    done = there("check", "plain", env={**plain, "COLUMNS": "200"})
    assert done.code == 0, (done.out, done.err)
    assert "plain, scratch:" in done.out
    for variant in ("fast", "concise"):
        assert f"The plain backend has no {variant} model" in done.out
        refused = there("train", "--backend", "plain", "--model", variant, env=plain)
        refused.refused(f"The plain backend has no {variant} model", "--model scratch")


def test_a_mistake_in_it_is_named(install):
    broken = one_file().replace('H @ params["W_hh"] +', 'H @ params["W_hh"].T +')
    assert broken != one_file()
    done = there("check", "plain", "--model", "scratch", env=install("plain", broken))
    assert done.code == 1
    assert "look first at: step" in done.out


def test_it_is_compared(plain):
    settings = options(**SMALL, num_epochs=1, repeats=1, output="out", models="scratch,fast")
    done = there("compare", "--backends", "numpy,plain", *settings, env=plain)
    assert done.code == 0, (done.out, done.err)
    record = json.loads(Path("out/comparison.json").read_text(encoding="utf-8"))
    states = {(each["backend"], each["model"]): each["state"] for each in record["candidates"]}
    assert states == {
        ("numpy", "scratch"): "measured",
        ("numpy", "fast"): "measured",
        ("plain", "scratch"): "measured",
        ("plain", "fast"): "not offered",
    }


def test_its_source_is_shown(plain):
    done = there("show", "step", "--backends", "numpy,plain", env=plain)
    assert (done.code, done.err) == (0, "")
    assert f"# plain: {Path('site', 'plain_rnn.py')}:" in done.out
    (source,) = (text for _, text in blocks("python") if "def step(" in text)
    assert re.search(r"def step\(.*?\n\n\n", source, re.DOTALL)[0].strip() in done.out


def test_the_pages_include_it_on_request(plain):
    program = """
    from make import site
    pages = site.pages(["numpy", "plain"], lambda formula, *more: formula)
    print(pages["chapter.md"].decode())
    """
    variables = {**plain, "PYTHONPATH": f"{plain['PYTHONPATH']}:{CLONE / 'notebooks'}"}
    done = there(program=("-c", textwrap.dedent(program)), env=variables, cwd=CLONE)
    assert done.code == 0, done.err
    assert "plain_rnn.py, line" in done.out
    assert "backends/torch" not in done.out


def test_messages_have_its_registered_name(install):
    env = install("other", one_file())  # whose `environment` calls itself plain
    settings = options(**SMALL, num_epochs=1)
    done = there("train", "--backend", "other", *settings, "--device", "cuda", env=env)
    done.refused("--device is cuda", "the other backend computes float32 on: cpu")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import a_module_that_nobody_has",
            ["The plain backend needs the Python module a_module_that_nobody_has"],
        ),
        ("framework", ["The plain backend needs framework", "pip install 'plain-rnn[framework]'"]),
    ],
    ids=["the missing module", "an error of its own"],
)
def test_what_is_missing_is_named(install, source, words):
    if source == "framework":  # the guide's own lines
        (source,) = (text for _, text in blocks("text") if "import framework" in text)
    done = there("train", "--backend", "plain", *options(**SMALL), env=install("plain", source))
    done.refused(*words)
    assert f"\nError: {words[0]}" in f"\n{done.err}"  # and nothing before it


def test_the_test_suite_runs_on_it_alone(plain):
    (commands,) = (text for _, text in blocks("text") if "pytest --backends" in text)
    command = next(line for line in commands.splitlines() if line.startswith("pytest --backends"))
    files = [CLONE / "tests" / f"test_{name}.py" for name in ("contract", "gradients", "epoch")]
    done = there(
        *command.split()[1:], "-p", "no:cacheprovider", *files, program=("-m", "pytest"), env=plain
    )
    assert done.code == 0, done.out
    assert re.search(r"\d+ passed", done.out)
