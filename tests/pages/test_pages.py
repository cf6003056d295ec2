"""The pages are up to date, their links are valid, and their examples run."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib
import pytest
from helpers import CLONE, RECORDS, require_tested, run_subprocess
from make import pages, prose, readme
from measure import frameworks

import rnn_scratch
from rnn_scratch.cli.compare import compare
from rnn_scratch.cli.main import COMMANDS
from rnn_scratch.cli.train import train
from rnn_scratch.runs import run_folder

README = (CLONE / "README.md").read_text(encoding="utf-8")
USAGE = (CLONE / "notebooks" / "site" / "usage.md").read_text(encoding="utf-8")
EXAMPLE, TENSORBOARD = re.findall(r"```python\n(.*?)```", USAGE, flags=re.DOTALL)


# All Markdown files for readers, which GitHub displays without preprocessing.
READ = ("*.md", "notebooks/*.md", "notebooks/site/*.md")
MARKDOWN = sorted(path for pattern in READ for path in CLONE.glob(pattern))
LINKS = re.compile(r'\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"')


@pytest.fixture(scope="module")
def rendered():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CLONE)  # the pages refer to records by their paths in the clone
        return pages.pages()


def test_pages_and_figures_are_up_to_date(rendered):
    folder = CLONE / pages.FOLDER
    texts = {name: text for name, text in rendered.items() if name.endswith(".md")}
    assert texts.keys() == {path.name for path in prose.PAGES.glob("*.md")}
    for name, text in texts.items():
        assert (folder / name).read_text(encoding="utf-8") == text.decode(), "run: nox -s pages"
    drawn = {name for name in rendered if name.endswith(".svg")}
    assert drawn == {path.relative_to(folder).as_posix() for path in folder.glob("figures/*")}
    version = matplotlib.__version__
    for name in drawn:  # other versions of Matplotlib may draw different paths
        pictures = (folder / name).read_text(encoding="utf-8"), rendered[name].decode()
        if f"Matplotlib v{version}," in pictures[0]:
            # Matplotlib's IDs are hashes that depend on the NumPy version.
            stored, redrawn = (re.sub(r"\b[mp][0-9a-f]{10}\b", "", text) for text in pictures)
            assert stored == redrawn, "run: nox -s pages"


def test_readme_results_are_up_to_date(monkeypatch):
    monkeypatch.chdir(CLONE)
    assert readme.readme(README) == README, "run: nox -s pages"


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(CLONE).as_posix())
def test_page_has_valid_links_and_no_template_syntax(path):
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


def test_python_example_of_the_usage_page_runs(capsys):
    preset = 'preset="minute"'
    assert EXAMPLE.count(preset) == 1
    short = EXAMPLE.replace(preset, f"{preset}, num_hiddens=32, num_updates=1")
    exec(compile(short, "usage.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("runs/") for line in lines)
    assert any(line.startswith("The clock ") for line in lines)
    assert "W_hi (32, 32)" in lines


def test_tensorboard_example_writes_all_losses(backend_names):
    require_tested(backend_names, "tensorflow")
    import tensorflow as tf

    exec(compile(TENSORBOARD, "usage.md", "exec"), {"rnn_scratch": rnn_scratch})
    (file,) = Path("runs").glob("*/events*")
    written = {
        (value.tag, event.step): float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    expected = {}
    for row in run_folder.read_history(file.parent):
        expected["loss/training", row.epoch] = row.loss
        expected["loss/held-out", row.epoch] = row.valid_loss
    assert written == pytest.approx(expected)


def test_shell_completion_works_as_documented():
    variable, *_ = re.findall(r"_[A-Z]+(?:_[A-Z]+)+(?==bash_source)", USAGE)
    variables = {"COMP_WORDS": "rnn-scratch tr", "COMP_CWORD": "1"}
    assert run_subprocess(env={variable: "bash_complete", **variables}).out == "plain,train\n"


def test_usage_page_names_existing_commands_and_options():
    for command in COMMANDS:
        assert f"`rnn-scratch {command}" in USAGE, command
    lines = re.findall(r"`rnn-scratch compare (--.*?)`", USAGE)
    assert lines
    for line in lines:
        compare.make_context("compare", shlex.split(line))  # only parses the options
    lines = re.findall(r"^    rnn-scratch train (--.*)$", USAGE, re.MULTILINE)
    assert lines
    for line in lines:
        train.make_context("train", shlex.split(line))


def is_named(row, cell):
    """Return whether a cell of the page on frameworks names the function of a record's row."""
    layer, _, names = cell.rpartition(": ")
    short = row["layer"] and f"`{row['layer'].split('.')[-1]}`"
    if not row["item"]:
        return short in names.split(", ")
    name, _, tokens = row["item"].partition(", ")
    return layer == short and not {name, f"{name} ({tokens})"}.isdisjoint(names.split(", "))


def test_figures_of_the_frameworks_page_come_from_the_record():
    record = json.loads((RECORDS / "frameworks.json").read_bytes())
    text = (CLONE / "notebooks" / "site" / "frameworks.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| Framework .*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    total = 0
    for kind, table in zip(("layer", "function", "optimizer", "embedding", "clip"), tables):
        for line in table.splitlines():
            names, functions, difference, explanation, remaining = line[2:-2].split(" | ")
            rows = [
                row
                for framework in record["frameworks"]
                if framework["name"] in names.split(", ")
                for row in framework["rows"]
                if row["kind"] == kind and is_named(row, functions)
                if explanation == pages.describe(row)
            ]
            assert difference == f"{max(row['difference'] for row in rows):.2g}", line
            if remaining:
                assert remaining == f"{max(row['remaining'] for row in rows):.2g}", line
            total += len(rows)
    assert total == sum(len(framework["rows"]) for framework in record["frameworks"])
    assert f"Of {total} comparisons" in text
    for framework in record["frameworks"]:
        for name, version in framework["versions"].items():
            assert f"{name} {version}" in text


def test_summary_of_the_frameworks_page_agrees_with_the_record():
    record = json.loads((RECORDS / "frameworks.json").read_bytes())
    found = {}
    for framework in record["frameworks"]:
        for row in framework["rows"]:
            for change in filter(None, row["explanation"].split("; ")):
                if row["kind"] != "embedding" or change not in frameworks.RULES:
                    found.setdefault(change, set()).add(framework["name"])
    keras = {"Keras with PyTorch", "Keras with TensorFlow", "Keras with JAX"}
    assert found == {
        frameworks.NO_B_HH: {"Flax NNX"},
        frameworks.RATE: {"MXNet", "MLX"},
        frameworks.CONSTANTS: {"MXNet", "Keras with TensorFlow"},
        frameworks.VELOCITY: {"MXNet", *keras},
        frameworks.DECAY: {"PyTorch", "MXNet", "MLX"},
        frameworks.EPSILON: {"MXNet", *keras},
        frameworks.NO_CORRECTION: {"MLX"},
        frameworks.SQUARES: {"Keras with TensorFlow"},
        frameworks.LAZY: {"PyTorch"},
        frameworks.NORM: {"PyTorch", "MLX"},
    }
