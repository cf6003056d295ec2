"""What the pages say is true: examples run, and values come from the records."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers import CLONE, CONTRIBUTING, there
from make import readme

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.cli.compare import compare
from rnn_scratch.cli.main import COMMANDS
from rnn_scratch.cli.train import train
from rnn_scratch.compare.record import read
from rnn_scratch.contract import VARIANTS, Update
from rnn_scratch.runs import run_folder
from rnn_scratch.settings import Settings

README = (CLONE / "README.md").read_text(encoding="utf-8")
USAGE = (CLONE / "notebooks" / "site" / "usage.md").read_text(encoding="utf-8")
EXAMPLE, TENSORBOARD = re.findall(r"```python\n(.*?)```", USAGE, flags=re.DOTALL)


def test_the_python_example_of_the_page_on_using_it_runs(tmp_path, capsys):
    exec(compile(EXAMPLE, "usage.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("runs/")
    assert lines[1].startswith("the clock ")


def test_the_report_of_the_page_writes_for_tensorboard():
    tf = pytest.importorskip("tensorflow")
    exec(compile(TENSORBOARD, "usage.md", "exec"), {"rnn_scratch": rnn_scratch})
    (file,) = Path("runs").glob("*/events*")
    written = {
        (value.tag, event.step): float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    expected = {}
    for row in run_folder.history(file.parent):
        expected["loss/training", row.epoch] = row.loss
        expected["loss/held-out", row.epoch] = row.valid_loss
    assert written == pytest.approx(expected)


def test_the_shell_completes_as_the_page_says():
    variable, *_ = re.findall(r"_[A-Z]+(?:_[A-Z]+)+(?==bash_source)", USAGE)
    words = {"COMP_WORDS": "rnn-scratch tr", "COMP_CWORD": "1"}
    assert there(env={variable: "bash_complete", **words}).out == "plain,train\n"


def test_the_page_on_using_it_names_every_command_and_options_that_exist():
    for command in COMMANDS:
        assert f"`rnn-scratch {command}" in USAGE, command
    lines = re.findall(r"`rnn-scratch compare (--.*?)`", USAGE)
    assert len(lines) >= 7
    for line in lines:
        compare.make_context("compare", shlex.split(line))  # which parses, and runs nothing
    lines = re.findall(r"^    rnn-scratch train (--.*)$", USAGE, re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        train.make_context("train", shlex.split(line))


def test_the_results_in_the_readme_are_those_of_the_records(monkeypatch):
    # It reads the folders of records by names relative to the clone.
    monkeypatch.chdir(CLONE)
    assert readme.readme(README) == README, "make them again: python -m make.readme"
    # The code in the picture is that of today.
    drawn = readme.STEP.read_text(encoding="utf-8")

    def words(picture):
        return re.sub(r"<style>.*?</style>|<[^>]*>|&#160;|\s", "", picture, flags=re.DOTALL)

    assert words(drawn) == words(readme.step().decode()), "make it again: python -m make.readme"
    assert "torch.tanh" in drawn
    assert "@font-face" not in drawn  # it loads nothing


def test_continuous_integration_calls_the_second_of_the_readme_s_two_lines():
    train, test = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert train.endswith("rnn-scratch train --preset minute")
    assert test.endswith("nox")
    assert (CLONE / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == test


def test_the_readme_is_short_and_its_pictures_exist():
    text = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(
        r"^(    |[|]).*|<!--.*-->|\(http\S*\)|\(notebooks\S*\)", "", text, flags=re.MULTILINE
    )
    assert len(prose.split()) <= 720
    places = re.findall(r"!\[[^\]]{20,}\]\(([^)]*)\)", README)
    assert len(places) == README.count("![") == 2
    assert all((CLONE / place).is_file() for place in places)


def test_what_the_records_of_comparisons_must_show():
    for folder in sorted((CLONE / readme.COMPARISONS).iterdir()):
        record = read(folder)
        assert record.outcome == "finished"
        assert record.text.corpus in ("time-machine", "tide-clock")
        assert not record.has_failed
        assert {candidate.backend for candidate in record.offered} == set(registry.OURS)
        if record.plan.target:
            trials = [trial for candidate in record.offered for trial in candidate.trials]
            assert all(record.plan.is_reached(trial.epochs[-1].held_out) for trial in trials)
    for candidate in read(CLONE / readme.COMPARISONS / "curves").candidates:
        assert candidate.trials[0].epochs[-1].perplexity < 1.1


def test_what_the_records_must_show():
    runs = {
        path.name: (record, history)
        for path, record, history in readme.recorded(CLONE / readme.RECORDS)
    }
    for name, (record, history) in runs.items():
        settings, model = record.settings, record.sessions[-1].runtime.model
        assert history[-1].epoch == 500
        assert record.text.corpus == "time-machine"
        most = {"random": 1.8}.get(settings.sampling, 1.1 if settings.cell == "rnn" else 1.2)
        most = 1.5 if model == "concise" else most
        assert history[-1].perplexity <= most, name
    assert len(runs) >= 11


def test_the_record_of_exact_mode_is_of_the_chapter_s_training_in_every_framework():
    exact = readme.exact(CLONE / readme.RECORDS)["exact"]
    epochs = exact.settings.num_epochs
    assert exact.settings == Settings(exact=True, num_epochs=epochs)
    assert epochs >= 20
    assert {run.model for run in exact.models} == set(VARIANTS)
    assert {run.backend for run in exact.models} == set(registry.OURS)
    digests = [[after.digest for after in run.digests] for run in exact.models]
    assert all(ends == digests[0] for ends in digests)
    assert len(set(digests[0])) == len(digests[0]) > 10
    assert exact.equal


def test_the_record_of_float64_agrees_for_a_hundred_epochs():
    losses = {
        path.name: [row.loss for row in history]
        for path, _, history in readme.recorded(CLONE / readme.RECORDS / "float64")
    }
    assert sorted(losses) == sorted(registry.OURS)
    for name in losses:
        assert len(losses[name]) == 100
        np.testing.assert_allclose(np.exp(losses[name]), np.exp(losses["numpy"]), rtol=1e-9)


@pytest.mark.parametrize(("page", "least"), [("errata.md", 1), ("site/security.md", 20)])
def test_the_tests_that_a_page_names_exist(page, least):
    text = (CLONE / "notebooks" / page).read_text(encoding="utf-8")
    sources = {
        path.name: path.read_text(encoding="utf-8") for path in (CLONE / "tests").rglob("test_*.py")
    }
    named = re.findall(r"`(test_\w+\.py)?:{0,2}(test_\w+)?`", text)
    assert len(named) >= least
    for file, function in named:
        source = sources[file] if file else "".join(sources.values())
        assert f"def {function}" in source, function


def test_the_record_of_optimizers_says_where_each_epsilon_is():
    record = json.loads((CLONE / readme.RECORDS / "optimizers.json").read_bytes())
    assert record["epsilon"] == Update().epsilon
    assert {*record["frameworks"]} == {*registry.OURS[1:]}
    for name, row in record["frameworks"].items():
        assert row["explained"] < 1e-9, name
        assert row["decayed"] < 1e-9, name
        # The place of ε shows where gradients are as small as it is, and nowhere else.
        assert (row["differences"][2] > 0.1) == row["paper"], name
        assert row["differences"][0] < 1e-4, name


def test_the_citation_is_of_this_version():
    text = (CLONE / "CITATION.cff").read_text(encoding="utf-8")
    data = dict(re.findall(r'^(\w+): "?(.*?)"?$', text, re.MULTILINE))
    project = (CLONE / "pyproject.toml").read_text(encoding="utf-8")
    for name in ("version", "license"):
        assert f'\n{name} = "{data[name]}"' in project
    index = (CLONE / "notebooks/site/index.md").read_text(encoding="utf-8")
    for name in ("title", "version", "license"):
        assert re.search(rf"^  {name} += {{{re.escape(data[name])}}},$", index, re.MULTILINE)


# The page for contributors and the workflow name sessions and files that there are.


PAGE = CONTRIBUTING
WORKFLOW = (CLONE / ".github/workflows/ci.yml").read_text(encoding="utf-8")
SESSIONS = set(
    re.findall(
        r'^@nox\.session(?:\(name="(\w+)"\)|.*)\n(?:@.*\n)*def (\w+)',
        (CLONE / "noxfile.py").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
NAMES = {name or function for name, function in SESSIONS}
(TABLE,) = re.findall(r"\| `nox -s` .*?\n\|---.*?\n(.*?)\n\n", PAGE, re.DOTALL)
ROWS = [re.findall(r"`([\w-]+)`", line.split("|")[1]) for line in TABLE.splitlines()]


def test_the_page_s_sessions_are_those_of_the_noxfile():
    assert {name for row in ROWS for name in row} == NAMES
    for name in re.findall(r'nox -s "?(\w+)', PAGE):
        assert name in NAMES, name


def test_the_workflow_runs_what_the_page_says():
    for job, listed in (("nox", ROWS[:4]), ("weekly", ROWS[4:12])):
        text = WORKFLOW.split(f"  {job}:\n")[1].split("steps:")[0]
        (together,) = re.findall(r"session: \[(.*?)\]", text)
        sessions = {*together.split(", "), *re.findall(r"session: (\w+)", text)}
        assert sessions == {name for row in listed for name in row}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"[\w./]+/[\w./]+\.\w+", PAGE))))
def test_every_file_that_the_page_names_is_there(path):
    assert (CLONE / path).is_file()
