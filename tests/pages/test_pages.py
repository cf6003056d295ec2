"""The pages are up to date, their links lead somewhere, their examples run."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib
import msgspec
import numpy as np
import pytest
from helpers import CLONE, run_subprocess
from make import pages, prose, readme, step_picture

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


# Every Markdown file for readers; GitHub displays them as they are.
READ = ("*.md", "notebooks/*.md", "notebooks/site/*.md")
MARKDOWN = sorted(path for pattern in READ for path in CLONE.glob(pattern))
LINKS = re.compile(r'\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"')


@pytest.fixture(scope="module")
def rendered():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CLONE)  # records are named relative to the clone
        return pages.pages()


def test_pages_and_figures_are_up_to_date(rendered):
    folder = CLONE / pages.FOLDER
    texts = {name: text for name, text in rendered.items() if name.endswith(".md")}
    assert texts.keys() == {path.name for path in folder.glob("*.md")}
    for name, text in texts.items():
        assert (folder / name).read_text(encoding="utf-8") == text.decode(), "run: nox -s pages"
    drawn = {name for name in rendered if name.endswith(".svg")}
    assert drawn == {path.relative_to(folder).as_posix() for path in folder.glob("figures/*")}
    version = matplotlib.__version__
    for name in drawn:  # another version of Matplotlib may draw other paths
        picture = (folder / name).read_bytes()
        if f"Matplotlib v{version}," in picture.decode():
            assert picture == rendered[name], "run: nox -s pages"


def test_results_and_picture_in_the_readme_are_up_to_date(monkeypatch):
    monkeypatch.chdir(CLONE)
    assert readme.readme(README) == README, "run: nox -s pages"
    for name, picture in step_picture.step_picture().items():
        assert (CLONE / pages.STEP / name).read_bytes() == picture, "run: nox -s pages"
        assert all(f">{name}</text>" in picture.decode() for name in ("np", "torch"))


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(CLONE).as_posix())
def test_page_has_links_that_lead_somewhere_and_no_template_syntax(path):
    text = prose.FENCE.sub("", path.read_text(encoding="utf-8"))
    text = re.sub(r"`[^`]+`", "code", text)
    assert not re.search(r"\{\{|\{%|^:::|\{(?:backend|framework)\}", text, re.MULTILINE)
    for link in filter(None, sum(LINKS.findall(text), ())):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = path.parent / parts.path if parts.path else path
        assert target.exists(), link
        assert target.suffix != ".md" or "lessons" not in target.parts, link
        assert not parts.fragment or parts.fragment in anchors(target), link


def anchors(path):
    """Return the heading anchors of a page or notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    headings = re.findall(r"^#+ (.*)$", prose.FENCE.sub("", text), re.MULTILINE)
    slug = prose.slug if path.suffix == ".md" else lambda heading: heading.replace(" ", "-")
    return {slug(heading) for heading in headings}


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
    assert run_subprocess(env={variable: "bash_complete", **words}).out == "plain,train\n"


def test_the_page_on_using_it_names_every_command_and_options_that_exist():
    for command in COMMANDS:
        assert f"`rnn-scratch {command}" in USAGE, command
    lines = re.findall(r"`rnn-scratch compare (--.*?)`", USAGE)
    assert len(lines) >= 7
    for line in lines:
        compare.make_context("compare", shlex.split(line))  # parse only, run nothing
    lines = re.findall(r"^    rnn-scratch train (--.*)$", USAGE, re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        train.make_context("train", shlex.split(line))


def test_continuous_integration_calls_the_second_of_the_readme_s_two_lines():
    train, test = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert train.endswith("rnn-scratch train --preset minute")
    assert test.endswith("nox")
    assert (CLONE / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == test


def test_what_the_records_of_comparisons_must_show():
    for folder in sorted((CLONE / readme.COMPARISONS).iterdir()):
        record = read(folder)
        assert record.outcome == "finished"
        assert record.text.corpus in ("time-machine", "tide-clock")
        assert not record.has_failed
        assert {candidate.backend for candidate in record.offered} == set(registry.BUILTIN_BACKENDS)
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
    settings = msgspec.convert(exact["settings"], Settings)
    assert settings == Settings(exact=True, num_epochs=settings.num_epochs)
    assert settings.num_epochs >= 20
    assert {run["model"] for run in exact["models"]} == set(VARIANTS)
    assert {run["backend"] for run in exact["models"]} == set(registry.BUILTIN_BACKENDS)
    digests = [[after["digest"] for after in run["digests"]] for run in exact["models"]]
    assert all(ends == digests[0] for ends in digests)
    assert len(set(digests[0])) == len(digests[0]) > 10
    assert exact["equal"]


def test_the_record_of_float64_agrees_for_a_hundred_epochs():
    losses = {
        path.name: [row.loss for row in history]
        for path, _, history in readme.recorded(CLONE / readme.RECORDS / "float64")
    }
    assert sorted(losses) == sorted(registry.BUILTIN_BACKENDS)
    for name in losses:
        assert len(losses[name]) == 100
        np.testing.assert_allclose(np.exp(losses[name]), np.exp(losses["numpy"]), rtol=1e-9)


def test_the_tests_that_the_errata_name_exist():
    text = (CLONE / "notebooks" / "site" / "errata.md").read_text(encoding="utf-8")
    sources = {
        path.name: path.read_text(encoding="utf-8") for path in (CLONE / "tests").rglob("test_*.py")
    }
    named = re.findall(r"`(test_\w+\.py)?:{0,2}(test_\w+)?`", text)
    assert named
    for file, function in named:
        source = sources[file] if file else "".join(sources.values())
        assert f"def {function}" in source, function


def test_the_record_of_optimizers_says_where_each_epsilon_is():
    record = json.loads((CLONE / readme.RECORDS / "optimizers.json").read_bytes())
    assert record["epsilon"] == Update().epsilon
    assert {*record["frameworks"]} == {*registry.BUILTIN_BACKENDS[1:]}
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


# CONTRIBUTING.md and the workflow name sessions and files that exist.


PAGE = (CLONE / "CONTRIBUTING.md").read_text(encoding="utf-8")
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
    for job, listed in (("nox", ROWS[:4]), ("weekly", ROWS[4 : ROWS.index(["arm"]) + 1])):
        text = WORKFLOW.split(f"  {job}:\n")[1].split("steps:")[0]
        (together,) = re.findall(r"session: \[(.*?)\]", text)
        sessions = {*together.split(", "), *re.findall(r"session: (\w+)", text)}
        assert sessions == {name for row in listed for name in row}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"[\w./]+/[\w./]+\.\w+", PAGE))))
def test_every_file_that_the_page_names_is_there(path):
    assert (CLONE / path).is_file()
